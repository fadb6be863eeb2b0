// A node of Socket.IO: `post` sends to one client, `broadcast` to a room. Arguments: the port, the URL of Redis, the adapter.

import { createServer } from "node:http";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [port, url, kind] = process.argv.slice(2);
const client = createClient({ url });
const subscriber = client.duplicate();
await Promise.all([client.connect(), subscriber.connect()]);
const adapters = {
  pubsub: () => createAdapter(client, subscriber),
  sharded: () => createShardedAdapter(client, subscriber),
  streams: () => createStreamsAdapter(client),
};

const http = createServer();
const io = new Server(http, { adapter: adapters[kind](), transports: ["websocket"] });
io.on("connection", (socket) => {
  socket.on("post", (to, content) => io.to(to).emit("message", content));
  socket.on("join", (room, done) => Promise.resolve(socket.join(room)).then(() => done()));
  socket.on("broadcast", (room, content) => io.to(room).emit("message", content));
});
http.listen(Number(port), "127.0.0.1");
