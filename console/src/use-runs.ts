/** The list of runs, kept live: loaded when the connection stands, changed by its events, loaded again after a loss. */

import { useEffect, useRef, useState } from "react";
import { statusSocketAddress } from "./addresses";
import { describeProblem, listRuns, type RunQuery } from "./api";
import { askForKey, keyProtocols } from "./api-key";
import { learnServerTime } from "./clock";
import { FrameBatch } from "./frame-batch";
import { onPageWake } from "./page-wake";
import { type ConnectionState, ReconnectingSocket } from "./reconnecting-socket";
import { appendPage, applyStatusEvents, EMPTY_LIST, mergeFirstPage, type RunList } from "./run-list-state";
import { type Frame, isEvent, type Run, type RunEvent } from "./wire";

const PAGE_RUNS = 25;
/** New runs are shown soon, but many at once cost one load of the list per interval. */
const RELOAD_SOON_MS = 60;
const RELOAD_INTERVAL_MS = 1_000;
const KEY_NEEDED = 4401;

export interface FollowedRuns {
  readonly runs: readonly Run[];
  readonly connection: ConnectionState;
  readonly isLoaded: boolean;
  readonly hasMore: boolean;
  readonly isLoadingMore: boolean;
  readonly problem: string | null;
  readonly loadMore: () => void;
  readonly reload: () => void;
}

type Shown = Omit<FollowedRuns, "loadMore" | "reload">;

const NOTHING_YET: Shown = {
  runs: [],
  connection: "connecting",
  isLoaded: false,
  hasMore: false,
  isLoadingMore: false,
  problem: null,
};

export function useRuns(query: RunQuery): FollowedRuns {
  const [shown, setShown] = useState(NOTHING_YET);
  const follower = useRef<RunsFollower | null>(null);
  useEffect(() => {
    const current = new RunsFollower((change) => setShown((before) => ({ ...before, ...change })));
    follower.current = current;
    current.start();
    return () => current.stop();
  }, []);
  const { status, text } = query;
  useEffect(() => follower.current?.search({ status, text }), [status, text]);
  return { ...shown, loadMore: () => void follower.current?.loadMore(), reload: () => void follower.current?.load() };
}

class RunsFollower {
  #show: (change: Partial<Shown>) => void;
  #query: RunQuery = { status: "", text: "" };
  #list: RunList = EMPTY_LIST;
  #isLoading = false;
  #mustReload = false; // something new came while a load was on its way
  #loadedAt = 0;
  #loads = 0; // an answer to an earlier question is not taken
  #reloadTimer: ReturnType<typeof setTimeout> | undefined;
  #isStopped = false;
  #batch = new FrameBatch<RunEvent>((events) => this.#applyEvents(events));
  #socket = new ReconnectingSocket(
    {
      address: statusSocketAddress,
      protocols: keyProtocols,
      receiveFrames: (frames) => this.#receiveFrames(frames),
      receiveState: (connection) => {
        this.#show({ connection });
        if (connection === "live") void this.load();
      },
      receiveRefusal: (code) => {
        if (code === KEY_NEEDED) void askForKey().then(() => this.#isStopped || this.#socket.start());
      },
    },
    { isEndless: true },
  );
  #stopWaking = (): void => {};

  constructor(show: (change: Partial<Shown>) => void) {
    this.#show = show;
  }

  start(): void {
    this.#socket.start();
    this.#stopWaking = onPageWake(() => this.#socket.wake());
  }

  stop(): void {
    this.#isStopped = true;
    this.#stopWaking();
    this.#socket.stop();
    this.#batch.clear();
    clearTimeout(this.#reloadTimer);
  }

  search(query: RunQuery): void {
    const isOther = query.status !== this.#query.status || query.text !== this.#query.text;
    this.#query = query;
    if (isOther) this.#list = EMPTY_LIST;
    this.#isLoading = false;
    void this.load();
  }

  /** Load the first page; asked again meanwhile, load it once more afterwards. */
  async load(): Promise<void> {
    if (this.#isLoading) {
      this.#mustReload = true;
      return;
    }
    this.#isLoading = true;
    this.#loadedAt = Date.now();
    const load = ++this.#loads;
    try {
      const page = await listRuns(this.#query, { limit: PAGE_RUNS });
      if (load === this.#loads) this.#put(mergeFirstPage(this.#list, page), { isLoaded: true, problem: null });
    } catch (error) {
      if (load === this.#loads) this.#put(this.#list, { problem: describeProblem(error) });
    }
    if (load === this.#loads) this.#endLoad();
  }

  async loadMore(): Promise<void> {
    const before = this.#list.nextBefore;
    if (before === null) return;
    const query = this.#query;
    this.#show({ isLoadingMore: true });
    try {
      const page = await listRuns(query, { limit: PAGE_RUNS, before });
      if (query === this.#query) this.#put(appendPage(this.#list, page), { problem: null });
    } catch (error) {
      this.#show({ problem: describeProblem(error) });
    }
    this.#show({ isLoadingMore: false });
  }

  #receiveFrames(frames: readonly Frame[]): void {
    const first = frames[0];
    if (first && !isEvent(first)) learnServerTime(first.ts);
    this.#batch.add(frames.filter(isEvent));
  }

  #endLoad(): void {
    this.#isLoading = false;
    if (!this.#mustReload) return;
    this.#mustReload = false;
    this.#reloadSoon();
  }

  #applyEvents(events: readonly RunEvent[]): void {
    const { list, hasStrangers } = applyStatusEvents(this.#list, events, this.#query);
    this.#put(list);
    if (hasStrangers) this.#reloadSoon();
  }

  #reloadSoon(): void {
    if (this.#isStopped || this.#reloadTimer !== undefined) return;
    const wait = Math.max(RELOAD_SOON_MS, this.#loadedAt + RELOAD_INTERVAL_MS - Date.now());
    this.#reloadTimer = setTimeout(() => {
      this.#reloadTimer = undefined;
      void this.load();
    }, wait);
  }

  #put(list: RunList, change: Partial<Shown> = {}): void {
    if (this.#isStopped) return;
    this.#list = list;
    this.#show({ runs: list.runs, hasMore: list.nextBefore !== null, ...change });
  }
}
