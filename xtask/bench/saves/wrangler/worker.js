import { DurableObject } from "cloudflare:workers";

export class Room extends DurableObject {
  fetch() {
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server);
    return new Response(null, { status: 101, webSocket: client });
  }

  webSocketMessage(socket) {
    socket.send("answer-0");
  }
}

export default {
  fetch(request, env) {
    return env.ROOM.getByName("room").fetch(request);
  },
};
