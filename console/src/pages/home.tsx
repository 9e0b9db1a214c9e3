/** Start a run; see all runs. */

import { type ReactNode, useDeferredValue, useEffect, useState } from "react";
import { Notice } from "../components/notice";
import { RunForm } from "../components/run-form";
import { RunList, RunListSkeleton } from "../components/run-list";
import { ConnectionBadge } from "../components/status";
import { formatWord } from "../format";
import { type FollowedRuns, useRuns } from "../use-runs";
import { isRunStatus, RUN_STATUSES, type RunStatus } from "../wire";

/** Typing pauses this long before the search is asked. */
const SEARCH_MS = 200;

export function HomePage(): ReactNode {
  const [status, setStatus] = useState<RunStatus | "">("");
  const [text, setText] = useState("");
  const runs = useRuns({ status, text: useSettled(text.trim()) });
  useEffect(() => {
    document.title = "Runcast";
  }, []);
  return (
    <main id="main" className="page page-home" tabIndex={-1}>
      <h1 className="home-title">What should run?</h1>
      <RunForm />
      <section aria-labelledby="runs-title" className="runs">
        <div className="runs-head">
          <h2 id="runs-title">Runs</h2>
          <ConnectionBadge state={runs.connection} />
          <div className="runs-filter" role="search">
            <input
              className="input input-small"
              type="search"
              placeholder="Find runs"
              aria-label="Find runs by text"
              data-testid="run-filter-text"
              value={text}
              onChange={(event) => setText(event.target.value)}
            />
            <select
              className="input input-small"
              aria-label="Show runs with status"
              data-testid="run-filter-status"
              value={status}
              onChange={(event) => setStatus(isRunStatus(event.target.value) ? event.target.value : "")}
            >
              <option value="">All</option>
              {RUN_STATUSES.map((word) => (
                <option key={word} value={word}>
                  {formatWord(word)}
                </option>
              ))}
            </select>
          </div>
        </div>
        <Runs runs={runs} isFiltered={status !== "" || text !== ""} />
      </section>
    </main>
  );
}

function Runs({ runs, isFiltered }: { runs: FollowedRuns; isFiltered: boolean }): ReactNode {
  const shown = useDeferredValue(runs.runs);
  if (runs.problem && runs.runs.length === 0) return <Trouble message={runs.problem} retry={runs.reload} />;
  if (!runs.isLoaded) return <RunListSkeleton />;
  if (runs.runs.length === 0) return <NoRuns isFiltered={isFiltered} />;
  return (
    <>
      {runs.problem && <Trouble message={runs.problem} retry={runs.reload} />}
      <RunList runs={shown} />
      {runs.hasMore && (
        <button
          type="button"
          className="button load-more"
          onClick={runs.loadMore}
          disabled={runs.isLoadingMore}
          data-testid="load-more"
        >
          {runs.isLoadingMore ? "Loading…" : "Show more"}
        </button>
      )}
    </>
  );
}

function Trouble({ message, retry }: { message: string; retry: () => void }): ReactNode {
  return (
    <Notice title="The runs could not be loaded" tone="bad">
      <p>{message}</p>
      <button type="button" className="button" onClick={retry}>
        Try again
      </button>
    </Notice>
  );
}

function NoRuns({ isFiltered }: { isFiltered: boolean }): ReactNode {
  return isFiltered ? (
    <Notice title="No run matches">
      <p className="muted">Change the text or the status to see others.</p>
    </Notice>
  ) : (
    <Notice title="No runs yet">
      <p className="muted">Type a prompt above, or take one of the examples: it appears here and moves as it runs.</p>
    </Notice>
  );
}

/** The text once typing has paused. */
function useSettled(text: string): string {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), SEARCH_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
}
