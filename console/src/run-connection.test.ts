import type { AddressInfo } from "node:net";
import { afterEach, expect, it } from "vitest";
import { WebSocketServer, type WebSocket as ServerSocket } from "ws";
import { type ConnectionState, ReconnectingSocket, type Timing } from "./reconnecting-socket";
import { RunConnection, type RunListener } from "./run-connection";
import type { Cursor, RunEvent } from "./wire";

const QUICK: Timing = { silenceMs: 2_000, retryMs: 5, maxRetryMs: 20, steadyMs: 60_000 };
const FINISHED: [number, string] = [1000, "run finished"];
const TS = "2026-01-01T00:00:00.000Z";

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

type Visit = { readonly socket: ServerSocket; readonly after: string; readonly protocol: string };

/** A gateway on a free port that does what each visit's script says; the last script serves all further visits. */
async function startGateway(...scripts: ((visit: Visit) => void)[]): Promise<{ address: string; visits: Visit[] }> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  const visits: Visit[] = [];
  server.on("connection", (socket, request) => {
    const after = new URL(request.url ?? "", "ws://here").searchParams.get("after") ?? "";
    const visit = { socket, after, protocol: socket.protocol };
    visits.push(visit);
    scripts[Math.min(visits.length, scripts.length) - 1]?.(visit);
  });
  await new Promise((resolve) => server.once("listening", resolve));
  undo.push(async () => {
    for (const client of server.clients) client.terminate();
    await new Promise((resolve) => server.close(resolve));
  });
  return { address: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`, visits };
}

function event(seq: number, attempt = 1): string {
  return JSON.stringify({ type: "log", payload: { message: `${seq}` }, ts: TS, runId: "r", seq, attempt });
}

function control(type: string, payload: object): string {
  return JSON.stringify({ type, payload, ts: TS, runId: "r" });
}

/** A watcher that notes all it is told; `until` waits for what was noted to be as wished. */
class Watcher implements RunListener {
  readonly seqs: number[] = [];
  readonly states: ConnectionState[] = [];
  readonly statuses: unknown[] = [];
  readonly rewinds: Cursor[] = [];
  readonly snapshots: Cursor[] = [];
  readonly refusals: number[] = [];
  #wishes: (() => void)[] = [];

  receiveEvents(events: readonly RunEvent[]): void {
    this.#note(() => this.seqs.push(...events.map(({ seq }) => seq)));
  }
  receiveStatus(status: unknown): void {
    this.#note(() => this.statuses.push(status));
  }
  receiveRewind(cursor: Cursor): void {
    this.#note(() => this.rewinds.push(cursor));
  }
  receiveSnapshot(cursor: Cursor): void {
    this.#note(() => this.snapshots.push(cursor));
  }
  receiveState(state: ConnectionState): void {
    this.#note(() => this.states.push(state));
  }
  receiveRefusal(code: number): void {
    this.#note(() => this.refusals.push(code));
  }

  until(isAsWished: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (isAsWished()) resolve();
      };
      this.#wishes.push(look);
      look();
    });
  }

  #note(write: () => unknown): void {
    write();
    for (const look of this.#wishes) look();
  }
}

function watch(address: string, { timing = QUICK, protocols = [] as string[] } = {}): { watcher: Watcher; connection: RunConnection } {
  const watcher = new Watcher();
  const connection = new RunConnection(watcher, {
    address: (cursor) => `${address}/ws/runs/r?after=${cursor}`,
    protocols: () => protocols,
    timing,
  });
  undo.push(() => connection.stop());
  connection.start();
  return { watcher, connection };
}

it("hands on events in order, also several joined in one message, and ends when the run does", async () => {
  const { address, visits } = await startGateway(({ socket }) => {
    socket.send(control("run_status", { status: "connected", lastSeq: 3, runStatus: "running", final: false }));
    socket.send([event(1), event(2)].join("\n"));
    socket.send(event(3));
    socket.close(...FINISHED);
  });
  const { watcher } = watch(address);
  await watcher.until(() => watcher.states.includes("finished"));
  expect(watcher.seqs).toEqual([1, 2, 3]);
  expect(watcher.statuses).toEqual(["running"]);
  expect(watcher.states).toEqual(["live", "finished"]);
  expect(visits.map(({ after }) => after)).toEqual(["0-0"]);
});

it("comes back with the cursor of the last event after a loss", async () => {
  const { address, visits } = await startGateway(
    ({ socket }) => socket.send([event(1), event(2, 2)].join("\n"), () => socket.terminate()),
    ({ socket }) => {
      socket.send(event(3, 2));
      socket.close(...FINISHED);
    },
  );
  const { watcher } = watch(address);
  await watcher.until(() => watcher.states.at(-1) === "finished");
  expect(watcher.seqs).toEqual([1, 2, 3]);
  expect(watcher.states).toEqual(["live", "reconnecting", "live", "finished"]);
  expect(visits.map(({ after }) => after)).toEqual(["0-0", "2-2"]);
});

it("ignores repeated events and connects again on a hole, handing on nothing beyond it", async () => {
  const { address, visits } = await startGateway(
    ({ socket }) => socket.send([event(1), event(1), event(4)].join("\n")),
    ({ socket }) => socket.send([event(1), event(2), event(3), event(4)].join("\n"), () => socket.close(...FINISHED)),
  );
  const { watcher } = watch(address);
  await watcher.until(() => watcher.states.at(-1) === "finished");
  expect(watcher.seqs).toEqual([1, 2, 3, 4]);
  expect(visits.map(({ after }) => after)).toEqual(["0-0", "1-1"]);
});

it("goes back when it is told to rewind, and on from there", async () => {
  const { address } = await startGateway(({ socket }) => {
    socket.send([event(1), event(2), event(3), control("rewind", { to: "1-2" }), event(3, 2)].join("\n"));
    socket.close(...FINISHED);
  });
  const { watcher, connection } = watch(address);
  await watcher.until(() => watcher.states.includes("finished"));
  expect(watcher.rewinds).toEqual([{ attempt: 1, seq: 2 }]);
  expect(watcher.seqs).toEqual([1, 2, 3, 3]);
  expect(connection.cursor).toEqual({ attempt: 2, seq: 3 });
});

it("comes back with a plain seq after a rewind that names no attempt", async () => {
  const { address, visits } = await startGateway(
    ({ socket }) => socket.send([event(1), event(2), control("rewind", { to: "1" })].join("\n"), () => socket.terminate()),
    ({ socket }) => socket.send(event(2, 2), () => socket.close(...FINISHED)),
  );
  const { watcher } = watch(address);
  await watcher.until(() => watcher.states.at(-1) === "finished");
  expect(watcher.seqs).toEqual([1, 2, 2]);
  expect(visits.map(({ after }) => after)).toEqual(["0-0", "1"]);
});

it("jumps ahead only when a snapshot says so", async () => {
  const { address } = await startGateway(({ socket }) => {
    socket.send([control("snapshot", { to: "1-70" }), event(71)].join("\n"));
    socket.close(...FINISHED);
  });
  const { watcher } = watch(address);
  await watcher.until(() => watcher.states.includes("finished"));
  expect(watcher.snapshots).toEqual([{ attempt: 1, seq: 70 }]);
  expect(watcher.seqs).toEqual([71]);
});

it("takes a connection without any frame for dead", async () => {
  const { address, visits } = await startGateway(
    () => {}, // accepts and says nothing
    ({ socket }) => socket.send(event(1), () => socket.close(...FINISHED)),
  );
  const { watcher } = watch(address, { timing: { ...QUICK, silenceMs: 50 } });
  await watcher.until(() => watcher.states.includes("finished"));
  expect(watcher.seqs).toEqual([1]);
  expect(visits.length).toBe(2);
});

it("asks again when two heartbeats know of events that never came", async () => {
  const beat = control("heartbeat", { lastSeq: 2, status: "done", final: true });
  const { address, visits } = await startGateway(
    ({ socket }) => socket.send([event(1), beat, beat].join("\n")),
    ({ socket }) => socket.send(event(2), () => socket.close(...FINISHED)),
  );
  const { watcher } = watch(address);
  await watcher.until(() => watcher.states.at(-1) === "finished");
  expect(watcher.seqs).toEqual([1, 2]);
  expect(visits.map(({ after }) => after)).toEqual(["0-0", "1-1"]);
});

it.each([4400, 4401, 4404])("does not try again after the refusal %i", async (code) => {
  const { address, visits } = await startGateway(({ socket }) => socket.close(code, "no"));
  const { watcher } = watch(address);
  await watcher.until(() => watcher.refusals.length > 0);
  expect(watcher.refusals).toEqual([code]);
  expect(watcher.states).toEqual(["refused"]);
  expect(visits.length).toBe(1);
});

it("does not wait out its backoff when the page wakes", async () => {
  const { address } = await startGateway(
    ({ socket }) => socket.send(event(1), () => socket.terminate()),
    ({ socket }) => socket.send(event(2), () => socket.close(...FINISHED)),
  );
  const { watcher, connection } = watch(address, { timing: { ...QUICK, retryMs: 3_600_000, maxRetryMs: 3_600_000 } });
  await watcher.until(() => watcher.states.at(-1) === "reconnecting");
  connection.wake();
  await watcher.until(() => watcher.states.at(-1) === "finished");
  expect(watcher.seqs).toEqual([1, 2]);
});

it("offers the subprotocols that carry the key", async () => {
  const { address, visits } = await startGateway(({ socket }) => socket.send(event(1), () => socket.close(...FINISHED)));
  const { watcher } = watch(address, { protocols: ["runcast.v1", "runcast.bearer.a2V5"] });
  await watcher.until(() => watcher.states.includes("finished"));
  expect(visits[0]?.protocol).toBe("runcast.v1");
});

it("takes the end of an endless feed for a loss, and is live before anything is said", async () => {
  const { address, visits } = await startGateway(({ socket }) => visits.length < 3 && socket.close(...FINISHED));
  const watcher = new Watcher();
  const receiveFrames = (): void => {};
  const receiveState = (state: ConnectionState): void => watcher.receiveState(state);
  const listener = { address: () => address, protocols: () => [], receiveFrames, receiveState };
  const socket = new ReconnectingSocket(listener, { isEndless: true, timing: QUICK });
  undo.push(() => socket.stop());
  socket.start();
  await watcher.until(() => visits.length === 3 && watcher.states.at(-1) === "live");
  expect(watcher.states).not.toContain("finished");
});

it("hears nothing more once it is stopped", async () => {
  const { address } = await startGateway(({ socket }) => {
    socket.on("close", () => closed());
    socket.send(event(1));
  });
  let closed = (): void => {};
  const isClosed = new Promise<void>((resolve) => {
    closed = resolve;
  });
  const { watcher, connection } = watch(address);
  await watcher.until(() => watcher.seqs.length === 1);
  connection.stop();
  await isClosed;
  expect(watcher.states).toEqual(["live"]);
});

it("leaves out what isn't a frame", async () => {
  const { address } = await startGateway(({ socket }) => {
    socket.send(["", "no json", "[]", '{"type":1}', event(1)].join("\n"));
    socket.close(...FINISHED);
  });
  const { watcher } = watch(address);
  await watcher.until(() => watcher.states.includes("finished"));
  expect(watcher.seqs).toEqual([1]);
});
