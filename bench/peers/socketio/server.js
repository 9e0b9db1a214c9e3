// Socket.IO with one of its Redis adapters: a room per run; the load publishes as the adapter's emitters do.
//
//     node server.js PORT REDIS_PORT pubsub|streams
//
// `streams` keeps what was said, so that a client that comes back within two minutes gets what it missed.
import { createServer } from "node:http";
import { createAdapter as createPubSubAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";

const [port, redisPort, mode] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];
const redis = new Redis(redisPort, "127.0.0.1");
const options =
  mode === "streams"
    ? {
        adapter: createStreamsAdapter(redis, { maxLen: 100_000 }),
        connectionStateRecovery: { maxDisconnectionDuration: 120_000, skipMiddlewares: true },
      }
    : { adapter: createPubSubAdapter(redis, redis.duplicate()) };

const http = createServer();
const io = new Server(http, {
  ...options,
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
});
io.on("connection", (socket) => {
  const runId = socket.handshake.auth.run;
  socket.join(runId);
  const ts = new Date().toISOString();
  socket.emit("event", { type: "run_status", payload: { status: "connected" }, ts, runId });
});
http.listen({ port, host: "127.0.0.1", backlog: 4096 });
