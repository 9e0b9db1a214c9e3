/** One run, live. */

import { type ReactNode, useEffect, useState } from "react";
import { runPath } from "../addresses";
import { cancelRun, describeProblem, repeatRun } from "../api";
import { CopyButton } from "../components/copy-button";
import { BackIcon, RepeatIcon } from "../components/icons";
import { JsonView } from "../components/json-view";
import { Notice } from "../components/notice";
import { RunFacts } from "../components/run-facts";
import { RunLog } from "../components/run-log";
import { RunText } from "../components/run-text";
import { ConnectionBadge, StatusBadge } from "../components/status";
import { ProgressBar, Timeline, ToolList } from "../components/timeline";
import { Link, navigate } from "../router";
import { plannedSteps } from "../run-state";
import type { RunView } from "../run-view";
import { type FollowedRun, useRun } from "../use-run";
import { isFinal, titleOf } from "../wire";

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
  // Steps that were taken back and never came again are not part of what happened.
  const steps = hasEnded ? view.steps.filter((step) => step.status !== "waiting") : view.steps;
  return (
    <div className="run-content">
      {view.request && <Notice title={view.request} tone="warn" />}
      {view.error && <ErrorPanel view={view} />}
      {view.progress && <ProgressBar progress={view.progress} label="Progress of the run" />}
      {steps.length + planned.length > 0 ? (
        <Section title="Steps">
          <Timeline steps={steps} planned={planned} hasEnded={hasEnded} />
        </Section>
      ) : (
        !hasEnded && <p className="run-waiting muted">{waitingFor(view)}</p>
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
      {view.artifacts.length > 0 && (
        <Section title="Artifacts">
          <Artifacts view={view} />
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

function Artifacts({ view }: { view: RunView }): ReactNode {
  return (
    <ul className="artifacts">
      {view.artifacts.map(({ seq, name, url }) => (
        <li key={seq}>
          {url ? (
            <a href={url} rel="noreferrer" target="_blank">
              {name}
            </a>
          ) : (
            name
          )}
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
  const word = isMissing ? "no such run" : (status ?? "…");
  useEffect(() => {
    document.title = `${word} · ${titleOf({ prompt, runner, runId }).slice(0, 80)} · Runcast`;
  }, [word, prompt, runner, runId]);
}

interface Action {
  readonly act: (action: () => Promise<unknown>) => void;
  readonly isBusy: boolean;
  readonly problem: string | null;
}

/** A button's request: one at a time, its failure shown. */
function useAction(): Action {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  function act(action: () => Promise<unknown>): void {
    setBusy(true);
    setProblem(null);
    action()
      .catch((error: unknown) => setProblem(describeProblem(error)))
      .finally(() => setBusy(false));
  }
  return { act, isBusy, problem };
}

function waitingFor({ status }: RunView): string {
  if (status === null) return "Loading…";
  if (status === "queued" || status === "delayed") return "Waiting for a worker.";
  return "Nothing to show yet: it appears here as it happens.";
}

function pretty(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}
