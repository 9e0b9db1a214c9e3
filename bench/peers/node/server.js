// The original architecture: one process subscribes to `run:*`, parses what comes and sends it to the sockets of its run.
//
//     node server.js PORT REDIS_PORT original|tuned
//
// `original` stringifies once per client, as a handler per socket does; `tuned` hands the published text to all of them.
import { createServer } from "node:http";
import Redis from "ioredis";
import { WebSocketServer } from "ws";

const [port, redisPort, mode] = [Number(process.argv[2]), Number(process.argv[3]), process.argv[4]];
const watchers = new Map(); // run id → set of sockets

const redis = new Redis(redisPort, "127.0.0.1");
await redis.psubscribe("run:*");

function sendParsed(sockets, message) {
  const event = JSON.parse(message);
  for (const socket of sockets) {
    if (socket.readyState === socket.OPEN) socket.send(JSON.stringify(event));
  }
}

function sendAsIs(sockets, message) {
  const bytes = Buffer.from(message);
  for (const socket of sockets) {
    if (socket.readyState === socket.OPEN) socket.send(bytes, { binary: false });
  }
}

const send = mode === "tuned" ? sendAsIs : sendParsed;
redis.on("pmessage", (_pattern, channel, message) => {
  const sockets = watchers.get(channel.slice(4));
  if (sockets) send(sockets, message);
});

const server = createServer((_request, response) => response.writeHead(404).end());
const sockets = new WebSocketServer({ server, perMessageDeflate: false, clientTracking: false });
sockets.on("connection", (socket, request) => {
  const runId = request.url.slice("/ws/runs/".length);
  let group = watchers.get(runId);
  if (!group) watchers.set(runId, (group = new Set()));
  group.add(socket);
  socket.on("close", () => {
    group.delete(socket);
    if (!group.size) watchers.delete(runId);
  });
  socket.on("error", () => socket.terminate());
  const ts = new Date().toISOString();
  socket.send(JSON.stringify({ type: "run_status", payload: { status: "connected" }, ts, runId }));
});
server.listen({ port, host: "127.0.0.1", backlog: 4096 });
