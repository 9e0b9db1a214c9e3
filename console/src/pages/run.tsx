/** One run, live. */

import { type ReactNode, useEffect } from "react";
import { runPath } from "../addresses";
import { cancelRun, repeatRun, undoRun } from "../api";
import { Artifacts } from "../components/artifacts";
import { CopyButton } from "../components/copy-button";
import { Countdown } from "../components/elapsed";
import { BackIcon, BranchIcon, ClockIcon, RepeatIcon, UndoIcon } from "../components/icons";
import { JsonView } from "../components/json-view";
import { Notice } from "../components/notice";
import { Requests } from "../components/request-panel";
import { RunFacts } from "../components/run-facts";
import { RunLog } from "../components/run-log";
import { RunText } from "../components/run-text";
import { ConnectionBadge, StatusBadge } from "../components/status";
import { ProgressBar, Timeline, ToolList } from "../components/timeline";
import { Link, navigate } from "../router";
import { formatMoment, formatWord } from "../format";
import { plannedSteps } from "../run-state";
import type { ChildView, RunView } from "../run-view";
import { useAction } from "../use-action";
import { type FollowedRun, useRun } from "../use-run";
import { isFinal, isRunStatus, titleOf } from "../wire";

/** The built-in runner whose runs undo others. */
const UNDO_RUNNER = "undo";

export function RunPage({ runId }: { runId: string }): ReactNode {
  const run = useRun(runId);
  const { view, problem } = run;
  const isMissing = problem?.status === 404;
  useTitle(view, isMissing);
  if (isMissing) return <NoSuchRun runId={runId} />;
  return (
    <main id="main" className="page page-run" tabIndex={-1}>
      <Link href="/" className="back-link">
        <BackIcon /> All runs
      </Link>
      <RunHead run={run} />
      {problem && view.status === null && <Notice title={problem.message} tone="bad" />}
      <div className="run-columns">
        <RunContent view={view} />
        <aside className="run-aside" aria-label="Details">
          <RunFacts view={view} />
        </aside>
      </div>
    </main>
  );
}

function RunHead({ run: { view, connection, isLoaded } }: { run: FollowedRun }): ReactNode {
  return (
    <div className="run-head">
      <h1 className="run-title" data-testid="run-title">
        {isLoaded ? titleOf(view) : " "}
      </h1>
      <div className="run-bar">
        <span role="status" className="run-bar-status">
          <StatusBadge status={view.status} />
        </span>
        <ConnectionBadge state={connection} />
        <RunActions view={view} isLoaded={isLoaded} />
      </div>
    </div>
  );
}

function RunActions({ view, isLoaded }: { view: RunView; isLoaded: boolean }): ReactNode {
  const { act, isBusy, problem } = useAction();
  const hasEnded = isFinal(view.status);
  const again = async (): Promise<void> => {
    const { prompt, runner, input, tags } = view;
    const { runId } = await repeatRun({ prompt, runner: runner ?? "", input, tags });
    navigate(runPath(runId));
  };
  const undo = async (): Promise<void> => navigate(runPath((await undoRun(view.runId)).runId));
  const undoing = view.children.find((child) => child.runner === UNDO_RUNNER);
  return (
    <div className="run-actions">
      {problem && (
        <span className="form-problem" role="alert">
          {problem}
        </span>
      )}
      {!hasEnded && (
        <button
          type="button"
          className="button"
          data-testid="cancel-button"
          onClick={() => act(() => cancelRun(view.runId))}
          disabled={isBusy || view.status === null || view.status === "canceling"}
        >
          {view.status === "canceling" ? "Canceling…" : "Cancel"}
        </button>
      )}
      {hasEnded && undoing && (
        <Link href={runPath(undoing.runId)} className="button" data-testid="undo-link">
          <UndoIcon /> Show undo
        </Link>
      )}
      {hasEnded && view.hasUndo && !undoing && (
        <button type="button" className="button" data-testid="undo-button" onClick={() => act(undo)} disabled={isBusy}>
          <UndoIcon /> Undo
        </button>
      )}
      {/* Always in its own place: a click that was meant to cancel must never start a run. */}
      <button
        type="button"
        className="button"
        data-testid="repeat-button"
        onClick={() => act(again)}
        disabled={isBusy || !isLoaded}
      >
        <RepeatIcon /> Run again
      </button>
    </div>
  );
}

function RunContent({ view }: { view: RunView }): ReactNode {
  const hasEnded = isFinal(view.status);
  const planned = plannedSteps(view);
  const children = view.children.filter((child) => child.runner !== UNDO_RUNNER);
  // Steps that were taken back and never came again are not part of what happened.
  const steps = hasEnded ? view.steps.filter((step) => step.status !== "waiting") : view.steps;
  return (
    <div className="run-content">
      <Requests runId={view.runId} requests={view.requests} plan={view.plan} />
      <Waiting view={view} />
      {view.error && <ErrorPanel view={view} />}
      {view.progress && <ProgressBar progress={view.progress} label="Progress of the run" />}
      {steps.length + planned.length > 0 ? (
        <Section title="Steps">
          <Timeline steps={steps} planned={planned} hasEnded={hasEnded} />
        </Section>
      ) : (
        !hasEnded && !isToldOtherwise(view) && <p className="run-waiting muted">{waitingFor(view)}</p>
      )}
      {view.tools.length > 0 && (
        <Section title="Tools">
          <ToolList tools={view.tools} hasEnded={hasEnded} />
        </Section>
      )}
      {view.messages.length > 0 && (
        <Section title="Text">
          <RunText messages={view.messages} />
        </Section>
      )}
      {children.length > 0 && (
        <Section title="Runs that it started">
          <Children runs={children} />
        </Section>
      )}
      {view.artifacts.length > 0 && (
        <Section title="Artifacts">
          <Artifacts artifacts={view.artifacts} />
        </Section>
      )}
      {view.status === "done" && (
        <Section title="Output" action={<CopyButton text={pretty(view.output)} label="Copy the output" />}>
          <div className="panel" data-testid="run-output">
            <JsonView value={view.output} />
          </div>
        </Section>
      )}
      {view.logs.length > 0 && (
        <Section title="Log">
          <RunLog lines={view.logs} dropped={view.droppedLogs} />
        </Section>
      )}
    </div>
  );
}

function Section({ title, action, children }: { title: string; action?: ReactNode; children: ReactNode }): ReactNode {
  return (
    <section className="section" aria-label={title}>
      <div className="section-head">
        <h2>{title}</h2>
        {action}
      </div>
      {children}
    </section>
  );
}

function ErrorPanel({ view }: { view: RunView }): ReactNode {
  if (!view.error || view.status === "done") return null;
  return (
    <div className="notice notice-bad" data-testid="run-error">
      <p className="notice-title">{view.error.message}</p>
      <code>{view.error.code}</code>
    </div>
  );
}

/** What the run waits for besides people, and until when. */
function Waiting({ view: { status, dueAt, retry } }: { view: RunView }): ReactNode {
  if (status === "delayed" && dueAt) {
    return (
      <div className="notice notice-wait" role="status" data-testid="run-delayed">
        <ClockIcon />
        <p className="notice-title">
          <Countdown to={dueAt} before="Goes on in " />
          <span className="muted"> · {formatMoment(dueAt)}</span>
        </p>
      </div>
    );
  }
  if (status !== "retrying") return null;
  const why = retry?.reason === "worker_lost" ? "Its worker was lost." : (retry?.error?.message ?? "The last attempt failed.");
  return (
    <div className="notice notice-warn notice-wait" role="status" data-testid="run-retrying">
      <RepeatIcon />
      <div>
        <p className="notice-title">{why}</p>
        <p className="muted">
          It is tried again{retry?.at ? <Countdown to={retry.at} before=" in " /> : " soon"}; what was done to its end is kept.
        </p>
      </div>
    </div>
  );
}

function Children({ runs }: { runs: readonly ChildView[] }): ReactNode {
  return (
    <ul className="children">
      {runs.map(({ runId, runner, status }) => (
        <li key={runId} data-testid="child-run">
          <Link href={runPath(runId)} className="child">
            <BranchIcon />
            <span className="child-name">{runner}</span>
            <code className="run-id">{runId}</code>
            {status === null ? <span className="muted">started</span> : <StatusBadge status={isRunStatus(status) ? status : null} />}
          </Link>
        </li>
      ))}
    </ul>
  );
}

function NoSuchRun({ runId }: { runId: string }): ReactNode {
  return (
    <main id="main" className="page" tabIndex={-1}>
      <Notice title="There is no such run" isPage>
        <p className="muted">
          No run has the id <code className="run-id">{runId}</code>.
        </p>
        <Link href="/" className="button">
          All runs
        </Link>
      </Notice>
    </main>
  );
}

function useTitle({ status, prompt, runner, runId }: RunView, isMissing: boolean): void {
  const word = isMissing ? "no such run" : status ? formatWord(status) : "…";
  useEffect(() => {
    document.title = `${word} · ${titleOf({ prompt, runner, runId }).slice(0, 80)} · Runcast`;
  }, [word, prompt, runner, runId]);
}

/** Whether something on the page says already what the run is waiting for. */
function isToldOtherwise({ status, dueAt, requests, messages }: RunView): boolean {
  return (status === "delayed" && dueAt !== null) || status === "retrying" || requests.length + messages.length > 0;
}

function waitingFor({ status }: RunView): string {
  if (status === null) return "Loading…";
  if (status === "queued" || status === "delayed") return "Waiting for a worker.";
  return "Nothing to show yet: it appears here as it happens.";
}

function pretty(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}
