function upgrade(request) {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = () => socket.send(answer());
  return response;
}

function answer() {
  return "answer-0";
}

Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.env.get("PORT")) }, upgrade);
