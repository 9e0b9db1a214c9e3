/** One run, followed live: the API's facts, the connection's events, one view. */

import { useEffect, useState } from "react";
import { runSocketAddress } from "./addresses";
import { ApiError, getRun, type RunWithSteps } from "./api";
import { askForKey, keyProtocols } from "./api-key";
import { learnServerTime } from "./clock";
import { FrameBatch } from "./frame-batch";
import { onPageWake } from "./page-wake";
import type { ConnectionState } from "./reconnecting-socket";
import { RunConnection } from "./run-connection";
import { applyEvents, applyRun, applyStatus, applyStored, refold } from "./run-state";
import { createView, type RunView } from "./run-view";
import type { RunEvent } from "./wire";

export interface FollowedRun {
  readonly view: RunView;
  readonly connection: ConnectionState;
  readonly isLoaded: boolean;
  readonly problem: ApiError | null;
}

const KEY_NEEDED = 4401;
const NOT_FOUND = 4404;

/** Mount it with `key={runId}`: a follower belongs to one run. */
export function useRun(runId: string): FollowedRun {
  const [run, setRun] = useState<FollowedRun>(() => ({
    view: createView(runId),
    connection: "connecting",
    isLoaded: false,
    problem: null,
  }));
  useEffect(() => follow(runId, setRun), [runId]);
  return run;
}

type Update = (change: (run: FollowedRun) => FollowedRun) => void;

/** Start following; returns the way to stop. */
function follow(runId: string, update: Update): () => void {
  let view = createView(runId);
  let events: RunEvent[] = []; // all of them, for the case that some are taken back
  let isStopped = false;

  const show = (next: RunView): void => {
    if (next === view || isStopped) return;
    view = next;
    update((run) => ({ ...run, view: next }));
  };
  const batch = new FrameBatch<RunEvent>((arrived) => {
    events = events.concat(arrived);
    show(applyEvents(view, arrived));
  });

  async function load(merge: (loaded: RunWithSteps) => RunView): Promise<void> {
    try {
      const loaded = await getRun(runId);
      if (isStopped) return;
      show(merge(loaded));
      update((run) => ({ ...run, isLoaded: true, problem: null }));
    } catch (error) {
      if (isStopped || !(error instanceof ApiError)) return;
      if (error.status === 404) connection.stop();
      update((run) => ({ ...run, problem: error }));
    }
  }

  const connection = new RunConnection(
    {
      receiveEvents: (arrived) => batch.add(arrived),
      receiveStatus: (status, lastSeq, ts) => {
        learnServerTime(ts);
        batch.flush();
        show(applyStatus(view, status, lastSeq));
      },
      receiveRewind: (cursor) => {
        batch.flush();
        events = events.filter((event) => event.seq <= cursor.seq);
        show(refold(view, events));
      },
      receiveSnapshot: (cursor) => {
        batch.flush();
        void load((loaded) => applyStored(applyRun(view, loaded), loaded, cursor));
      },
      receiveState: (state) => {
        batch.flush();
        update((run) => ({ ...run, connection: state }));
        if (state === "live" && !view.createdAt) void load((loaded) => applyRun(view, loaded));
        // What only the database knows of an ended run: how it ended, if its last event was missed, and what can be undone.
        if (state === "finished") void load((loaded) => applyRun(view, loaded));
      },
      receiveRefusal: (code, reason) => {
        if (code === KEY_NEEDED) void askForKey().then(() => isStopped || connection.start());
        else if (code === NOT_FOUND) update((run) => ({ ...run, problem: notFound(reason) }));
      },
    },
    { address: (cursor) => runSocketAddress(runId, cursor), protocols: keyProtocols },
  );

  void load((loaded) => applyRun(view, loaded));
  connection.start();
  const stopWaking = onPageWake(() => connection.wake());
  return () => {
    isStopped = true;
    stopWaking();
    connection.stop();
    batch.clear();
  };
}

function notFound(reason: string): ApiError {
  return new ApiError(reason || "There is no such run.", 404, "run_not_found");
}
