/**
 * What one run's page shows, folded from the run's events. Pure: no clock, no network, no React.
 *
 * - Events come in the order of the log, without gaps; the connection sees to that.
 * - A batch makes one new view; steps and messages that it doesn't touch keep their identity, so React skips them.
 * - Facts from the API (`applyRun`, `applyStatus`) never go back behind what a later event said, nor does a replayed
 *   event go back behind a fact.
 * - Types that are not known here change nothing but the cursor.
 */

import type { RunWithSteps, StoredStep } from "./api";
import { momentAfter, stepIdOf, textOf, textOrNull } from "./payload";
import {
  addArtifact,
  addChild,
  addUsage,
  endChild,
  mergeChildren,
  mergeRequests,
  openRequest,
  readStoredRequest,
  resolveRequest,
} from "./request-state";
import { blankStep, createView, type Draft, type LogLine, type RunView, type StepView } from "./run-view";
import { changeStep, failStep, putTool, readProgress, reduceProgress, resetStep, startStep, succeedStep } from "./step-state";
import { type Cursor, isFinal, isObject, isRunStatus, readError, type Run, type RunEvent } from "./wire";

/** What is kept of the log lines; older ones are counted only. */
export const MAX_LOG_LINES = 1_000;
/** What is kept of one message; a longer one loses its beginning. */
export const MAX_MESSAGE_CHARS = 200_000;

/** Take over what the database knows of the run. */
export function applyRun(view: RunView, run: Run & Partial<RunWithSteps>): RunView {
  const { runner, prompt, input, tags, createdAt } = run;
  const known = {
    ...view,
    ...{ runner, prompt, input, tags, createdAt, parentId: run.parentId ?? null },
    hasUndo: run.steps?.some((step) => step.hasUndo === true && step.status === "succeeded") ?? view.hasUndo,
    children: mergeChildren(view.children, run.children ?? []),
    requests: mergeRequests(view.requests, run.requests ?? []),
  };
  if (run.lastSeq < view.statusSeq) return known;
  const { status, attempt, output, error, startedAt, endedAt, lastSeq } = run;
  return { ...known, status, attempt, output, error, startedAt, endedAt, dueAt: run.dueAt ?? null, statusSeq: lastSeq };
}

/** Take over what a `connected` or `heartbeat` frame says of the run. */
export function applyStatus(view: RunView, status: unknown, lastSeq: number): RunView {
  if (!isRunStatus(status) || status === view.status || lastSeq < view.statusSeq) return view;
  return { ...view, status, statusSeq: lastSeq };
}

/** Fold a batch of events into the view. */
export function applyEvents(view: RunView, events: readonly RunEvent[]): RunView {
  if (events.length === 0) return view;
  const draft: Draft = { ...view };
  const lines: LogLine[] = [];
  for (const event of events) {
    if (isLaterStart(draft, event)) takeBackAttempt(draft);
    draft.cursor = { attempt: event.attempt, seq: event.seq };
    if (event.type === "log") lines.push(readLogLine(event));
    else REDUCERS[event.type]?.(draft, event);
  }
  keepLogs(draft, lines);
  return draft;
}

/** The view as it would be had only these events happened: after a rewind. */
export function refold(view: RunView, events: readonly RunEvent[]): RunView {
  const { runner, prompt, input, tags, createdAt, parentId, children, hasUndo } = view;
  const origin = { runner, prompt, input, tags, createdAt, parentId, children, hasUndo };
  return applyEvents({ ...createView(view.runId), ...origin }, events);
}

/** Take over steps and requests as the database has them: their events up to the cursor will not come. */
export function applyStored(view: RunView, stored: Pick<RunWithSteps, "steps" | "requests">, cursor: Cursor): RunView {
  const steps = stored.steps.map(readStoredStep);
  const open = (stored.requests ?? []).map(readStoredRequest);
  const requests = mergeRequests(open, stored.requests ?? []);
  return { ...view, steps, requests, cursor: view.cursor.seq > cursor.seq ? view.cursor : cursor };
}

function readStoredStep({ stepId, hasUndo, parentId, ...step }: StoredStep): StepView {
  return { ...blankStep(stepId, step.index), ...step, parentId: parentId ?? null };
}

/** The names of the steps that the plan still holds, beyond those that were begun. */
export function plannedSteps(view: RunView): readonly string[] {
  return view.status === "done" ? [] : view.plan.slice(view.steps.length);
}

type Reducer = (draft: Draft, event: RunEvent) => void;

const REDUCERS: Readonly<Record<string, Reducer | undefined>> = {
  run_status: reduceStatus,
  run_completed: reduceStatus,
  plan_generated: (draft, { payload }) => {
    draft.plan = Array.isArray(payload.steps) ? payload.steps.map(nameOfPlanned) : [];
  },
  step_started: startStep,
  step_progress: (draft, event) => {
    changeStep(draft, event, () => ({ progress: readProgress(event.payload) }));
  },
  step_succeeded: succeedStep,
  step_failed: failStep,
  step_reset: resetStep,
  message_started: (draft, event) => {
    putMessage(draft, event, () => ({ text: "", isComplete: false }));
  },
  message_delta: (draft, event) => {
    const delta = textOf(event.payload.delta);
    putMessage(draft, event, (text) => ({ text: text + delta, isComplete: false }));
  },
  message_completed: (draft, event) => {
    const whole = event.payload.text;
    putMessage(draft, event, (text) => ({ text: typeof whole === "string" ? whole : text, isComplete: true }));
  },
  tool_started: (draft, event) => {
    putTool(draft, event, { status: "running", input: event.payload.input ?? event.payload.args ?? null });
  },
  tool_completed: (draft, event) => {
    putTool(draft, event, { status: "succeeded", output: event.payload.output, endedAt: event.ts });
  },
  tool_failed: (draft, event) => {
    putTool(draft, event, { status: "failed", error: readError(event.payload.error), endedAt: event.ts });
  },
  input_requested: openRequest,
  input_resolved: resolveRequest,
  child_started: addChild,
  child_ended: endChild,
  progress: reduceProgress,
  artifact: addArtifact,
  usage: addUsage,
};

/** A run that was parked tells nothing else than that a later attempt runs. */
function isLaterStart(draft: Draft, event: RunEvent): boolean {
  return event.attempt > draft.cursor.attempt && event.payload.status === "running";
}

function reduceStatus(draft: Draft, event: RunEvent): void {
  const { status, output, error, dueAt } = event.payload;
  if (!isRunStatus(status)) return;
  if (status === "retrying") takeBackAttempt(draft);
  if (status === "running") draft.startedAt ??= event.ts;
  if (event.seq < draft.statusSeq) return;
  draft.status = status;
  draft.statusSeq = event.seq;
  draft.attempt = Math.max(draft.attempt, event.attempt);
  draft.dueAt = textOrNull(dueAt);
  draft.retry = status === "retrying" ? readRetry(event) : null;
  draft.error = error !== undefined && status !== "retrying" ? readError(error) : null;
  if (status === "done") draft.output = output ?? null;
  if (isFinal(status)) endRun(draft, event.ts);
}

function readRetry({ payload, ts }: RunEvent): RunView["retry"] {
  const error = payload.error === undefined || payload.error === null ? null : readError(payload.error);
  return { reason: textOf(payload.reason), error, at: momentAfter(ts, payload.retryInMs) };
}

/** Nobody is asked any more; what was answered is still told. */
function endRun(draft: Draft, ts: string): void {
  draft.endedAt = ts;
  draft.progress = null;
  draft.requests = draft.requests.filter(({ state }) => state !== "open");
}

/**
 * What isn't committed is said and called again: texts that were said to their end stay, and so do questions. The log
 * lines stay, too: they tell what happened.
 */
function takeBackAttempt(draft: Draft): void {
  draft.messages = draft.messages.filter((message) => message.isComplete);
  draft.tools = [];
  draft.progress = null;
}

function putMessage(
  draft: Draft,
  event: RunEvent,
  change: (text: string) => { text: string; isComplete: boolean },
): void {
  const id = textOf(event.payload.messageId);
  const at = draft.messages.findLastIndex((message) => message.id === id);
  const { text, isComplete } = change(draft.messages[at]?.text ?? "");
  const message = { id, stepId: stepIdOf(event), text: text.slice(-MAX_MESSAGE_CHARS), isComplete };
  draft.messages = at < 0 ? [...draft.messages, message] : draft.messages.with(at, message);
}

function keepLogs(draft: Draft, lines: readonly LogLine[]): void {
  if (lines.length === 0) return;
  const all = [...draft.logs, ...lines];
  draft.logs = all.slice(-MAX_LOG_LINES);
  draft.droppedLogs += all.length - draft.logs.length;
}

function readLogLine({ seq, ts, payload }: RunEvent): LogLine {
  const text = textOf(payload.message) || textOf(payload.text) || JSON.stringify(payload);
  return { seq, ts, level: textOf(payload.level).toLowerCase() || "info", text, data: isObject(payload.data) ? JSON.stringify(payload.data) : "" };
}

function nameOfPlanned(step: unknown): string {
  if (!isObject(step)) return textOf(step) || "step";
  return textOf(step.name) || textOf(step.title) || textOf(step.tool) || "step";
}

