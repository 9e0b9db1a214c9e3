// Bun's own WebSocket server and Redis client: a topic per run, published natively.
//
//     bun server.js PORT REDIS_PORT
import { RedisClient } from "bun";

const [port, redisPort] = [Number(process.argv[2]), Number(process.argv[3])];
const redis = new RedisClient(`redis://127.0.0.1:${redisPort}`);
await redis.connect();
const joined = new Map(); // channel → promise of its subscription

const server = Bun.serve({
  port,
  hostname: "127.0.0.1",
  fetch(request, server) {
    const runId = new URL(request.url).pathname.slice("/ws/runs/".length);
    return server.upgrade(request, { data: { runId } }) ? undefined : new Response(null, { status: 404 });
  },
  websocket: {
    perMessageDeflate: false,
    async open(socket) {
      const { runId } = socket.data;
      const channel = `run:${runId}`;
      socket.subscribe(channel);
      if (!joined.has(channel)) {
        joined.set(channel, redis.subscribe(channel, (message) => server.publish(channel, message)));
      }
      await joined.get(channel);
      const ts = new Date().toISOString();
      socket.send(JSON.stringify({ type: "run_status", payload: { status: "connected" }, ts, runId }));
    },
    message() {},
  },
});
