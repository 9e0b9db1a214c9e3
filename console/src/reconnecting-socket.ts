/**
 * A WebSocket that comes back: backoff with jitter, a watch over silence, an early try when the page wakes.
 *
 * It knows nothing of runs. Exactly one socket is current; what an older one still says is not heard.
 * It gives up only when told to: on `stop`, on close 1000 "run finished", and on the codes 4400–4499, which say
 * that trying again changes nothing.
 */

import { type Frame, readFrames } from "./wire";

export type ConnectionState = "connecting" | "live" | "reconnecting" | "finished" | "refused";

export interface Timing {
  /** Without any frame for this long the connection counts as dead; the gateway speaks at least every 5 s. */
  readonly silenceMs: number;
  /** The first retry waits up to this, each further one up to twice as long as the one before … */
  readonly retryMs: number;
  /** … but never more than this. */
  readonly maxRetryMs: number;
  /** A connection that lasted this long was a good one: the backoff starts anew. */
  readonly steadyMs: number;
}

export const DEFAULT_TIMING: Timing = { silenceMs: 15_000, retryMs: 400, maxRetryMs: 10_000, steadyMs: 5_000 };

export interface SocketOptions {
  /** A feed without an end: whatever closes it is a loss. It has nothing to say at first, so it is live once open. */
  readonly isEndless?: boolean;
  readonly timing?: Timing;
  readonly random?: () => number;
}

export interface SocketListener {
  /** The address to connect to, asked before each try: it may carry a cursor. */
  address(): string;
  /** Subprotocols, asked before each try; empty for none. */
  protocols(): readonly string[];
  receiveFrames(frames: readonly Frame[]): void;
  receiveState(state: ConnectionState): void;
  /** The gateway refused for good, with this code. */
  receiveRefusal?(code: number, reason: string): void;
}

/** The gateway's own words: a proxy that gives up may close with 1000, too. */
function isFinish(code: number, reason: string): boolean {
  return code === 1000 && reason === "run finished";
}

function isRefusal(code: number): boolean {
  return code >= 4400 && code < 4500;
}

export class ReconnectingSocket {
  #listener: SocketListener;
  #timing: Timing;
  #random: () => number;
  #isEndless: boolean;
  #socket: WebSocket | null = null;
  #state: ConnectionState = "connecting";
  #failures = 0;
  #openedAt = 0; // when the current socket opened; 0 before
  #heardAt = 0; // when anything last came in
  #retryTimer: ReturnType<typeof setTimeout> | null = null;
  #silenceTimer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    listener: SocketListener,
    { isEndless = false, timing = DEFAULT_TIMING, random = Math.random }: SocketOptions = {},
  ) {
    this.#listener = listener;
    this.#timing = timing;
    this.#random = random;
    this.#isEndless = isEndless;
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Connect now, whatever was before. */
  start(): void {
    this.#drop();
    this.#say(this.#state === "connecting" ? "connecting" : "reconnecting");
    this.#open();
  }

  /** Leave the current socket and try again, after the usual wait. */
  restart(): void {
    this.#drop();
    this.#retryLater();
  }

  /** The page came back or the network did: don't wait, and don't trust a socket that has been silent. */
  wake(): void {
    if (this.#retryTimer !== null) this.start();
    else if (this.#socket && Date.now() - this.#heardAt > this.#timing.silenceMs) this.start();
  }

  /** Close for good; nothing is heard afterwards. */
  stop(): void {
    this.#drop();
  }

  #open(): void {
    const protocols = this.#listener.protocols();
    const address = this.#listener.address();
    const socket = protocols.length > 0 ? new WebSocket(address, [...protocols]) : new WebSocket(address);
    this.#socket = socket;
    this.#openedAt = 0;
    this.#hear(socket);
    socket.onopen = () => this.#ifCurrent(socket, () => this.#receiveOpen(socket));
    socket.onmessage = ({ data }) => this.#ifCurrent(socket, () => this.#receiveMessage(socket, data));
    socket.onclose = ({ code, reason }) => this.#ifCurrent(socket, () => this.#receiveClose(code, reason));
  }

  #ifCurrent(socket: WebSocket, act: () => void): void {
    if (this.#socket === socket) act();
  }

  #receiveOpen(socket: WebSocket): void {
    this.#openedAt = Date.now();
    this.#hear(socket);
    if (this.#isEndless) this.#say("live");
  }

  #receiveMessage(socket: WebSocket, data: unknown): void {
    this.#hear(socket);
    if (typeof data !== "string") return;
    // The first frame, not the opening: a gateway opens a connection also to say why it refuses it.
    this.#say("live");
    this.#listener.receiveFrames(readFrames(data));
  }

  #receiveClose(code: number, reason: string): void {
    const wasSteady = this.#openedAt > 0 && Date.now() - this.#openedAt >= this.#timing.steadyMs;
    if (wasSteady) this.#failures = 0;
    this.#drop();
    if (isFinish(code, reason) && !this.#isEndless) this.#say("finished");
    else if (isRefusal(code)) this.#refuse(code, reason);
    else this.#retryLater();
  }

  #refuse(code: number, reason: string): void {
    this.#say("refused");
    this.#listener.receiveRefusal?.(code, reason);
  }

  #retryLater(): void {
    this.#say("reconnecting");
    const limit = Math.min(this.#timing.maxRetryMs, this.#timing.retryMs * 2 ** this.#failures);
    this.#failures += 1;
    // At least half of the limit: clients of a gateway that restarts spread out, and none hammers.
    this.#retryTimer = setTimeout(() => this.start(), (limit * (1 + this.#random())) / 2);
  }

  #hear(socket: WebSocket): void {
    this.#heardAt = Date.now();
    if (this.#silenceTimer !== null) clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => this.#ifCurrent(socket, () => this.restart()), this.#timing.silenceMs);
  }

  #drop(): void {
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    if (this.#silenceTimer !== null) clearTimeout(this.#silenceTimer);
    this.#retryTimer = this.#silenceTimer = null;
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  #say(state: ConnectionState): void {
    if (state === this.#state) return;
    this.#state = state;
    this.#listener.receiveState(state);
  }
}
