/**
 * The words of the wire, as this client reads them: statuses, events, control frames, cursors, runs.
 *
 * Reading never throws: what isn't a frame is left out, unknown keys and types are ignored.
 */

export const RUN_STATUSES = [
  "queued",
  "delayed",
  "running",
  "retrying",
  "awaiting_approval",
  "awaiting_input",
  "canceling",
  "done",
  "failed",
  "canceled",
  "timed_out",
] as const;

export type RunStatus = (typeof RUN_STATUSES)[number];
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type Payload = Readonly<Record<string, unknown>>;

const FINAL: ReadonlySet<string> = new Set(["done", "failed", "canceled", "timed_out"]);
const KNOWN: ReadonlySet<string> = new Set(RUN_STATUSES);

export function isFinal(status: string | null): boolean {
  return status !== null && FINAL.has(status);
}

export function isRunStatus(value: unknown): value is RunStatus {
  return typeof value === "string" && KNOWN.has(value);
}

/** The last event seen: `<attempt>-<seq>` on the wire, or a plain seq if nobody knows the attempt. */
export interface Cursor {
  readonly attempt: number;
  readonly seq: number;
}

export const START: Cursor = { attempt: 0, seq: 0 };

const UNKNOWN_ATTEMPT = -1;

export function formatCursor(cursor: Cursor): string {
  return cursor.attempt === UNKNOWN_ATTEMPT ? String(cursor.seq) : `${cursor.attempt}-${cursor.seq}`;
}

export function readCursor(value: unknown): Cursor | null {
  const match = typeof value === "string" ? /^(?:(\d{1,16})-)?(\d{1,16})$/.exec(value) : null;
  const cursor = match && { attempt: Number(match[1] ?? UNKNOWN_ATTEMPT), seq: Number(match[2]) };
  return cursor && Number.isSafeInteger(cursor.attempt) && Number.isSafeInteger(cursor.seq) ? cursor : null;
}

/**
 * Whether the place is the cursor's or before it in the log's order: attempt, then seq.
 * A seq that we have, of a later attempt, isn't seen: ours was lost by everybody, and the gateway has to say so.
 */
export function isSeen(place: Cursor, cursor: Cursor): boolean {
  if (cursor.attempt === UNKNOWN_ATTEMPT || place.attempt === cursor.attempt) return place.seq <= cursor.seq;
  return place.attempt < cursor.attempt;
}

/** A frame of the connection itself: `connected`, `heartbeat`, `rewind`, `snapshot`, `bye`. */
export interface ControlFrame {
  readonly type: string;
  readonly payload: Payload;
  readonly ts: string;
  readonly runId: string;
}

/** One thing that happened in a run. */
export interface RunEvent extends ControlFrame {
  readonly seq: number;
  readonly attempt: number;
  readonly stepId?: string;
}

export type Frame = ControlFrame | RunEvent;

export function isEvent(frame: Frame): frame is RunEvent {
  return "seq" in frame && typeof frame.seq === "number";
}

/** A text message holds one frame, or several joined by newlines. */
export function readFrames(text: string): Frame[] {
  return text.split("\n").flatMap((line) => {
    const frame = readFrame(line);
    return frame ? [frame] : [];
  });
}

function readFrame(line: string): Frame | null {
  try {
    const value: unknown = JSON.parse(line);
    return isFrame(value) ? value : null;
  } catch {
    return null;
  }
}

function isFrame(value: unknown): value is Frame {
  return isObject(value) && typeof value.type === "string" && isObject(value.payload);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export interface RunError {
  readonly code: string;
  readonly message: string;
}

/** Errors travel as {code, message}; a plain string is taken as the message. */
export function readError(value: unknown): RunError {
  if (!isObject(value)) return { code: "error", message: typeof value === "string" ? value : "no reason was given" };
  const { code, message } = value;
  return {
    code: typeof code === "string" ? code : "error",
    message: typeof message === "string" ? message : "no reason was given",
  };
}

export interface Run {
  readonly runId: string;
  readonly runner: string;
  readonly status: RunStatus;
  readonly attempt: number;
  readonly prompt: string | null;
  readonly input: Json;
  readonly tags: readonly string[];
  readonly output: Json;
  readonly error: RunError | null;
  readonly lastSeq: number;
  readonly createdAt: string;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  readonly priority?: number;
  readonly dueAt?: string | null;
  readonly parentId?: string | null;
}

/** What a run is called in lists and titles. */
export function titleOf(run: { prompt: string | null; runner: string | null; runId: string }): string {
  return run.prompt?.trim() || run.runner || run.runId;
}
