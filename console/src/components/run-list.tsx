/** The live list of runs. */

import { memo, type ReactNode } from "react";
import { runPath } from "../addresses";
import { Link } from "../router";
import { isFinal, type Run, titleOf } from "../wire";
import { Ago, Countdown, Elapsed } from "./elapsed";
import { PersonIcon } from "./icons";
import { isWaitingForPeople, StatusBadge } from "./status";

export function RunList({ runs }: { runs: readonly Run[] }): ReactNode {
  return (
    <ul className="run-list" data-testid="run-list" aria-label="Runs, newest first">
      {runs.map((run) => (
        <RunItem key={run.runId} run={run} />
      ))}
    </ul>
  );
}

const RunItem = memo(function RunItem({ run }: { run: Run }): ReactNode {
  const isWaiting = isWaitingForPeople(run.status);
  return (
    <li data-testid="run-item" data-run-id={run.runId}>
      <Link href={runPath(run.runId)} className={isWaiting ? "run-item is-waiting" : "run-item"}>
        <span className="run-item-title">{titleOf(run)}</span>
        <StatusBadge status={run.status} />
        <span className="run-item-facts">
          {isWaiting && (
            <span className="run-item-waits" data-testid="run-waits">
              <PersonIcon /> waits for {run.status === "awaiting_approval" ? "approval" : "an answer"}
            </span>
          )}
          {run.status === "delayed" && run.dueAt && <Countdown to={run.dueAt} before="starts in " />}
          <Ago ts={run.createdAt} />
          {run.startedAt && (isFinal(run.status) ? run.endedAt : true) && (
            <Elapsed from={run.startedAt} to={run.endedAt} />
          )}
          {run.prompt !== null && run.runner !== "prompt" && <span>{run.runner}</span>}
          {run.attempt > 1 && <span>attempt {run.attempt}</span>}
          {run.error && <span className="run-item-error">{run.error.message}</span>}
          {run.tags.map((tag) => (
            <span key={tag} className="tag">
              {tag}
            </span>
          ))}
        </span>
      </Link>
    </li>
  );
});

/** As tall as the list that will stand there. */
export function RunListSkeleton(): ReactNode {
  return (
    <div className="run-list" aria-busy="true" aria-label="Loading runs">
      {[0, 1, 2, 3].map((row) => (
        <div key={row} className="run-item skeleton-row" />
      ))}
    </div>
  );
}
