// Adds one job to our queue as any Node program would, waits for its end as BullMQ tells it, and prints both.
// Arguments: the path of Redis's socket, the job's data as JSON.
import { Queue, QueueEvents } from "bullmq";

const [path, data] = process.argv.slice(2);
const connection = { path };
const events = new QueueEvents("runs", { connection });
await events.waitUntilReady();
const queue = new Queue("runs", { connection });
const job = await queue.add("from-node", JSON.parse(data));
await job.waitUntilFinished(events, 20_000);
console.log(JSON.stringify({ jobId: job.id, state: await job.getState() }));
await queue.close();
await events.close();
