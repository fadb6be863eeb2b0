const ANSWER = "answer-0";

function upgrade(request) {
  const { socket, response } = Deno.upgradeWebSocket(request);
  socket.onmessage = () => socket.send(ANSWER);
  return response;
}

Deno.serve({ hostname: "127.0.0.1", port: Number(Deno.env.get("PORT")) }, upgrade);
