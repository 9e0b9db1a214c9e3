/**
 * Follows one run: every event once and in order, over any number of reconnects. No React, no state of the run.
 *
 * Invariant: `cursor` is the last event handed on, and the next one handed on has the next seq. A repeated event is
 * ignored; what doesn't follow is never handed on: the connection starts again from the cursor. Only `rewind` and
 * `snapshot` move the cursor otherwise, and the listener is told. PROTOCOL.md has the rules.
 */

import { type ConnectionState, ReconnectingSocket, type Timing } from "./reconnecting-socket";
import {
  type ControlFrame,
  type Cursor,
  formatCursor,
  type Frame,
  isEvent,
  isSeen,
  readCursor,
  type RunEvent,
  START,
} from "./wire";

export interface RunListener {
  receiveEvents(events: readonly RunEvent[]): void;
  /** What the gateway says of the run itself, with `connected` and each heartbeat. */
  receiveStatus(status: unknown, lastSeq: number, ts: string): void;
  /** Events above the cursor never happened: drop them. */
  receiveRewind(cursor: Cursor): void;
  /** Events up to the cursor are not sent; their sum is to be had from the API. */
  receiveSnapshot(cursor: Cursor): void;
  receiveState(state: ConnectionState): void;
  receiveRefusal?(code: number, reason: string): void;
}

export interface RunConnectionOptions {
  /** The WebSocket address for a cursor. */
  readonly address: (cursor: string) => string;
  readonly protocols?: () => readonly string[];
  readonly after?: Cursor;
  readonly timing?: Timing;
}

export class RunConnection {
  #listener: RunListener;
  #socket: ReconnectingSocket;
  #cursor: Cursor;
  #behindAt: number | null = null; // our seq at the last heartbeat, if that one said there was more

  constructor(listener: RunListener, { address, protocols, after = START, timing }: RunConnectionOptions) {
    this.#listener = listener;
    this.#cursor = after;
    this.#socket = new ReconnectingSocket(
      {
        address: () => {
          this.#behindAt = null; // what the connection before said of how far the run is no longer counts
          return address(formatCursor(this.#cursor));
        },
        protocols: protocols ?? (() => []),
        receiveFrames: (frames) => this.#receiveFrames(frames),
        receiveState: (state) => listener.receiveState(state),
        receiveRefusal: (code, reason) => listener.receiveRefusal?.(code, reason),
      },
      timing ? { timing } : {},
    );
  }

  get cursor(): Cursor {
    return this.#cursor;
  }

  get state(): ConnectionState {
    return this.#socket.state;
  }

  start(): void {
    this.#socket.start();
  }

  wake(): void {
    this.#socket.wake();
  }

  stop(): void {
    this.#socket.stop();
  }

  #receiveFrames(frames: readonly Frame[]): void {
    let batch: RunEvent[] = [];
    for (const frame of frames) {
      if (!isEvent(frame)) {
        this.#handOn(batch);
        batch = [];
        if (this.#receiveControl(frame)) continue;
        this.#socket.restart();
        return;
      }
      if (isSeen(frame, this.#cursor)) continue;
      if (frame.seq !== this.#cursor.seq + 1) {
        this.#handOn(batch);
        this.#socket.restart();
        return;
      }
      this.#cursor = { attempt: frame.attempt, seq: frame.seq };
      batch.push(frame);
    }
    this.#handOn(batch);
  }

  #handOn(events: readonly RunEvent[]): void {
    if (events.length > 0) this.#listener.receiveEvents(events);
  }

  /** Whether the connection is still good after the frame. */
  #receiveControl({ type, payload, ts }: ControlFrame): boolean {
    const lastSeq = typeof payload.lastSeq === "number" ? payload.lastSeq : 0;
    if (type === "heartbeat") return this.#receiveHeartbeat(payload.status, lastSeq, ts);
    if (type === "rewind") return this.#rewind(readCursor(payload.to));
    if (type === "snapshot") return this.#skipTo(readCursor(payload.to));
    if (type === "run_status") this.#listener.receiveStatus(payload.runStatus, lastSeq, ts);
    return true;
  }

  /** Two heartbeats that know of more, and nothing in between: what is missing won't come by itself. */
  #receiveHeartbeat(status: unknown, lastSeq: number, ts: string): boolean {
    this.#listener.receiveStatus(status, lastSeq, ts);
    const { seq } = this.#cursor;
    const isBehind = lastSeq > seq;
    const wasBehind = this.#behindAt === seq;
    this.#behindAt = isBehind ? seq : null;
    return !(isBehind && wasBehind);
  }

  #rewind(cursor: Cursor | null): boolean {
    if (!cursor || cursor.seq > this.#cursor.seq) return false;
    this.#cursor = cursor;
    this.#listener.receiveRewind(cursor);
    return true;
  }

  #skipTo(cursor: Cursor | null): boolean {
    if (!cursor) return false;
    this.#cursor = cursor;
    this.#listener.receiveSnapshot(cursor);
    return true;
  }
}
