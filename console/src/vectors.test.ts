/** The protocol's vectors against this client: the same files as the gateway and the Python client run. */

import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocketServer, type WebSocket as ServerSocket } from "ws";
import { type ConnectionState, type Timing } from "./reconnecting-socket";
import { RunConnection, type RunListener } from "./run-connection";
import { applyEvents, refold } from "./run-state";
import { createView, type RunView } from "./run-view";
import { type Cursor, formatCursor, isEvent, isSeen, readCursor, readFrames, type RunEvent, START } from "./wire";

interface Encoded {
  readonly name: string;
  readonly frame: object;
  readonly bytes: string;
}

interface Readable {
  readonly name: string;
  readonly bytes: string;
  readonly cursor: string;
  readonly type: string;
}

interface ValidCursor {
  readonly from: string;
  readonly attempt: number | null;
  readonly seq: number;
  readonly text?: string;
}

type Short =
  | string
  | { readonly raw: string }
  | { readonly control: string; readonly payload: object }
  | { readonly at: string; readonly type: string; readonly payload: object };

interface Visit {
  readonly messages: readonly (readonly Short[])[];
  readonly close: readonly [number, string] | "torn" | "silent" | "client";
}

interface Scenario {
  readonly name: string;
  readonly after?: string;
  readonly connections: readonly Visit[];
  readonly asks: readonly string[];
  readonly shown: readonly string[];
  readonly text?: string;
  readonly ends: ConnectionState;
}

interface Fold {
  readonly name: string;
  readonly events: readonly (readonly [at: string, type: string, payload: RunEvent["payload"]])[];
  readonly status: string;
  readonly steps: readonly (readonly [id: string, status: string])[];
  readonly messages: readonly (readonly [id: string, text: string, isComplete: boolean])[];
  readonly requests: readonly string[];
}

function load<File>(name: string): File {
  return JSON.parse(readFileSync(new URL(`../../tests/vectors/${name}.json`, import.meta.url), "utf8")) as File;
}

const ENCODING = load<{ events: Encoded[]; controls: Encoded[]; readable: Readable[] }>("encoding");
const CURSORS = load<{ valid: ValidCursor[]; invalid: string[]; ascending: string[] }>("cursors");
const FEED = load<{ scenarios: Scenario[] }>("feed");

const FOLD = load<{ scenarios: Fold[] }>("fold");

const TIMING: Timing = { silenceMs: 150, retryMs: 2, maxRetryMs: 4, steadyMs: 60_000 };
const TS = "2026-01-01T00:00:00.000Z";

const undo: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step();
});

describe("encoding", () => {
  it.each([...ENCODING.events, ...ENCODING.controls])("reads: $name", ({ frame, bytes }) => {
    expect(readFrames(bytes)).toEqual([frame]);
    expect(isEvent(frame as RunEvent)).toBe("seq" in frame);
    expect(readFrames(`${bytes}\n${bytes}`)).toEqual([frame, frame]);
  });

  it.each(ENCODING.readable)("reads: $name", ({ bytes, cursor, type }) => {
    const [frame] = readFrames(bytes);
    expect(frame).toMatchObject({ ...readCursor(cursor), type });
  });
});

describe("cursors", () => {
  it.each(CURSORS.valid)("reads and writes back $from", ({ from, attempt, seq, text }) => {
    const cursor = readCursor(from);
    expect(cursor).toEqual({ attempt: attempt ?? -1, seq });
    expect(cursor && formatCursor(cursor)).toBe(text ?? from);
  });

  it.each(CURSORS.invalid.map((text) => ({ text })))("refuses %j", ({ text }) => {
    expect(readCursor(text)).toBeNull();
  });

  it("orders by attempt, then seq", () => {
    const cursors = CURSORS.ascending.map(cursorOf);
    for (const [at, cursor] of cursors.entries()) {
      expect(cursors.map((place) => isSeen(place, cursor))).toEqual(cursors.map((_, other) => other <= at));
    }
  });
});

describe("feed", () => {
  it.each(FEED.scenarios)("$name", async (scenario) => {
    const { address, asks } = await startGateway(scenario.connections);
    const screen = new Screen();
    const connection = new RunConnection(screen, {
      address: (cursor) => `${address}/ws/runs/r?after=${cursor}`,
      after: scenario.after ? cursorOf(scenario.after) : START,
      timing: TIMING,
    });
    undo.push(() => connection.stop());
    connection.start();
    expect(await screen.end).toBe(scenario.ends);
    expect(asks).toEqual(scenario.asks);
    expect(screen.shown).toEqual(scenario.shown);
    expect(screen.view.messages.map(({ text }) => text).join("")).toBe(scenario.text ?? "");
  });
});

describe("fold", () => {
  it.each(FOLD.scenarios)("$name", (scenario) => {
    const events = scenario.events.map(([at, type, payload]) => ({ type, payload, ts: TS, runId: "r", ...placeOf(at) }));
    for (let cut = 0; cut <= events.length; cut += 1) {
      const view = applyEvents(applyEvents(createView("r"), events.slice(0, cut)), events.slice(cut));
      expect(view.status).toBe(scenario.status);
      // A step that was taken back keeps its place on the page; it is no part of what happened.
      const steps = view.steps.filter((step) => step.status !== "waiting");
      expect(steps.map(({ id, status }) => [id, status])).toEqual(scenario.steps);
      expect(view.messages.map(({ id, text, isComplete }) => [id, text, isComplete])).toEqual(scenario.messages);
      expect(view.requests.filter(({ state }) => state === "open").map(({ id }) => id)).toEqual(scenario.requests);
    }
  });
});

/** What a watcher has before it, folded as the run's page does it. */
class Screen implements RunListener {
  view: RunView = createView("r");
  readonly end: Promise<ConnectionState>;
  #events: RunEvent[] = [];
  #snapshot: Cursor | null = null;
  #end: (state: ConnectionState) => void = () => {};

  constructor() {
    this.end = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get shown(): string[] {
    const snapshot = this.#snapshot ? [`snapshot ${formatCursor(this.#snapshot)}`] : [];
    return snapshot.concat(this.#events.map(formatCursor));
  }

  receiveEvents(events: readonly RunEvent[]): void {
    this.#events = this.#events.concat(events);
    this.view = applyEvents(this.view, events);
  }

  receiveRewind(cursor: Cursor): void {
    this.#events = this.#events.filter(({ seq }) => seq <= cursor.seq);
    this.view = refold(this.view, this.#events);
  }

  receiveSnapshot(cursor: Cursor): void {
    this.#events = [];
    this.#snapshot = cursor;
  }

  receiveStatus(): void {}

  receiveState(state: ConnectionState): void {
    if (state === "finished" || state === "refused") this.#end(state);
  }
}

/** A gateway on a free port: each connection does what its place in the scenario says. */
async function startGateway(connections: readonly Visit[]): Promise<{ address: string; asks: string[] }> {
  const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });
  const asks: string[] = [];
  server.on("connection", (socket, request) => {
    asks.push(new URL(request.url ?? "", "ws://here").searchParams.get("after") ?? "");
    const visit = connections[asks.length - 1];
    if (visit) perform(socket, visit);
    else socket.close(4404, "the scenario has no further connection");
  });
  await new Promise((resolve) => server.once("listening", resolve));
  undo.push(async () => {
    for (const client of server.clients) client.terminate();
    await new Promise((resolve) => server.close(resolve));
  });
  return { address: `ws://127.0.0.1:${(server.address() as AddressInfo).port}`, asks };
}

/** Each message waits for the one before, so that a connection is torn only after all of them. */
function perform(socket: ServerSocket, { messages, close }: Visit): void {
  const [first, ...others] = messages;
  if (first) socket.send(first.map(lineOf).join("\n"), () => perform(socket, { messages: others, close }));
  else if (close === "torn") socket.terminate();
  else if (typeof close !== "string") socket.close(...(close as [number, string]));
}

function lineOf(frame: Short): string {
  if (typeof frame === "string") return JSON.stringify(eventOf(frame));
  if ("raw" in frame) return frame.raw;
  const head = { type: "control" in frame ? frame.control : frame.type, payload: frame.payload, ts: TS, runId: "r" };
  return JSON.stringify("at" in frame ? { ...head, ...placeOf(frame.at) } : head);
}

/** `1-3`, `1-3 done`, `1-3 failed`. */
function eventOf(short: string): object {
  const [at = "", word] = short.split(" ");
  const head = { ts: TS, runId: "r", ...placeOf(at) };
  if (word === "done") return { type: "run_completed", payload: { status: word, output: null }, ...head };
  if (word) return { type: "run_status", payload: { status: word }, ...head };
  return { type: "log", payload: { message: at }, ...head };
}

function placeOf(text: string): { seq: number; attempt: number } {
  const { seq, attempt } = cursorOf(text);
  return { seq, attempt };
}

function cursorOf(text: string): Cursor {
  const cursor = readCursor(text);
  if (!cursor) throw new Error(`a vector with no cursor: ${text}`);
  return cursor;
}
