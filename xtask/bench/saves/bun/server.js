Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT),
  fetch(request, server) {
    if (!server.upgrade(request)) {
      return new Response("a WebSocket is expected", { status: 426 });
    }
  },
  websocket: {
    message(socket) {
      socket.send("answer-0");
    },
  },
});
