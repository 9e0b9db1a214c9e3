/**
 * What one run's page shows, folded from the run's events. Pure: no clock, no network, no React.
 *
 * - Events come in the order of the log, without gaps; the connection sees to that.
 * - A batch makes one new view; steps and messages that it doesn't touch keep their identity, so React skips them.
 * - Facts from the API (`applyRun`, `applyStatus`) never go back behind what a later event said, nor does a replayed
 *   event go back behind a fact.
 * - Types that are not known here change nothing but the cursor.
 */

import type { StoredStep } from "./api";
import {
  blankStep,
  createView,
  type LogLine,
  type Progress,
  type RunView,
  type StepView,
  type ToolView,
} from "./run-view";
import { type Cursor, isFinal, isObject, isRunStatus, type Payload, readError, type Run, type RunEvent } from "./wire";

/** What is kept of the log lines; older ones are counted only. */
export const MAX_LOG_LINES = 1_000;
/** What is kept of one message; a longer one loses its beginning. */
export const MAX_MESSAGE_CHARS = 200_000;

type Draft = { -readonly [Key in keyof RunView]: RunView[Key] };

/** Take over what the database knows of the run. */
export function applyRun(view: RunView, run: Run): RunView {
  const { runner, prompt, input, tags, createdAt } = run;
  const known = { ...view, runner, prompt, input, tags, createdAt };
  if (run.lastSeq < view.statusSeq) return known;
  const { status, attempt, output, error, startedAt, endedAt, lastSeq } = run;
  return { ...known, status, attempt, output, error, startedAt, endedAt, statusSeq: lastSeq };
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
    draft.cursor = { attempt: event.attempt, seq: event.seq };
    if (event.type === "log") lines.push(readLogLine(event));
    else REDUCERS[event.type]?.(draft, event);
  }
  keepLogs(draft, lines);
  return draft;
}

/** The view as it would be had only these events happened: after a rewind. */
export function refold(view: RunView, events: readonly RunEvent[]): RunView {
  const { runner, prompt, input, tags, createdAt } = view;
  return applyEvents({ ...createView(view.runId), runner, prompt, input, tags, createdAt }, events);
}

/** Take over the steps as the database has them: their events up to the cursor will not come. */
export function applySteps(view: RunView, steps: readonly StoredStep[], cursor: Cursor): RunView {
  const stored = steps.map(({ stepId, ...step }) => ({ ...blankStep(stepId, step.index), ...step }));
  return { ...view, steps: stored, cursor: view.cursor.seq > cursor.seq ? view.cursor : cursor };
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
  step_succeeded: (draft, event) => {
    const { output } = event.payload;
    changeStep(draft, event, () => ({ status: "succeeded", output, error: null, progress: null, endedAt: event.ts }));
  },
  step_failed: (draft, event) => {
    const error = readError(event.payload.error);
    const status = error.code === "canceled" ? "canceled" : "failed";
    const willRetry = event.payload.willRetry === true;
    changeStep(draft, event, () => ({ status, error, willRetry, progress: null, endedAt: event.ts }));
  },
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
  input_requested: (draft, { payload }) => {
    draft.request = textOf(payload.prompt) || "The run is waiting for an answer.";
  },
  input_resolved: (draft) => {
    draft.request = null;
  },
  progress: reduceProgress,
  artifact: (draft, { seq, payload }) => {
    const url = typeof payload.url === "string" && /^https?:\/\//.test(payload.url) ? payload.url : null;
    draft.artifacts = [...draft.artifacts, { seq, name: textOf(payload.name) || url || "artifact", url }];
  },
  usage: (draft, { payload }) => {
    draft.usage = { ...draft.usage, ...payload };
  },
};

function reduceStatus(draft: Draft, event: RunEvent): void {
  const { status, output, error } = event.payload;
  if (!isRunStatus(status)) return;
  if (status === "retrying") takeBackAttempt(draft);
  if (status === "running") draft.startedAt ??= event.ts;
  if (event.seq < draft.statusSeq) return;
  draft.status = status;
  draft.statusSeq = event.seq;
  draft.attempt = Math.max(draft.attempt, event.attempt);
  if (status === "done") draft.output = output ?? null;
  if (error !== undefined) draft.error = readError(error);
  if (isFinal(status)) endRun(draft, event.ts);
}

/** Progress made while one step runs is that step's; else it is the run's own. */
function reduceProgress(draft: Draft, event: RunEvent): void {
  const progress = readProgress(event.payload);
  const at = findStep(draft, stepIdOf(event) ?? onlyRunningStep(draft));
  const step = draft.steps[at];
  if (step) draft.steps = draft.steps.with(at, { ...step, progress });
  else draft.progress = progress;
}

function endRun(draft: Draft, ts: string): void {
  draft.endedAt = ts;
  draft.progress = null;
  draft.request = null;
}

/** The next attempt says its text and calls its tools again; the log lines stay, they tell what happened. */
function takeBackAttempt(draft: Draft): void {
  draft.messages = [];
  draft.tools = [];
  draft.progress = null;
  draft.request = null;
}

function startStep(draft: Draft, event: RunEvent): void {
  const id = stepIdOf(event);
  if (!id) return;
  const { name, index, input } = event.payload;
  const step: StepView = {
    ...blankStep(id, typeof index === "number" ? index : draft.steps.length + 1),
    name: textOf(name) || id,
    status: "running",
    input: input ?? null,
    startedAt: event.ts,
  };
  const at = findStep(draft, id);
  draft.steps = at < 0 ? [...draft.steps, step] : draft.steps.with(at, step);
}

function resetStep(draft: Draft, event: RunEvent): void {
  const id = stepIdOf(event);
  changeStep(draft, event, ({ name, index, input }) => ({ ...blankStep(id ?? "", index), name, input }));
  draft.messages = draft.messages.filter((message) => message.stepId !== id);
}

function changeStep(draft: Draft, event: RunEvent, change: (step: StepView) => Partial<StepView>): void {
  const at = findStep(draft, stepIdOf(event));
  const step = draft.steps[at];
  if (step) draft.steps = draft.steps.with(at, { ...step, ...change(step) });
}

function findStep(draft: Draft, id: string | null): number {
  return id === null ? -1 : draft.steps.findLastIndex((step) => step.id === id);
}

function stepIdOf(event: RunEvent): string | null {
  const id = event.payload.stepId ?? event.stepId;
  return typeof id === "string" ? id : null;
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

/** A tool call stands with its step, or by itself if no such step is there. */
function putTool(draft: Draft, event: RunEvent, change: Partial<ToolView>): void {
  const id = textOf(event.payload.toolCallId) || textOf(event.payload.tool);
  const stepId = stepIdOf(event) ?? stepOfTool(draft, id);
  const at = findStep(draft, stepId);
  const step = draft.steps[at];
  if (step) draft.steps = draft.steps.with(at, { ...step, tools: withTool(step.tools, id, event, change, stepId) });
  else draft.tools = withTool(draft.tools, id, event, change, stepId);
}

/** A call that names no step belongs where it began, or to the one step that is running. */
function stepOfTool(draft: Draft, id: string): string | null {
  const owner = draft.steps.findLast((step) => step.tools.some((tool) => tool.id === id));
  return owner ? owner.id : onlyRunningStep(draft);
}

function onlyRunningStep(draft: Draft): string | null {
  const running = draft.steps.filter((step) => step.status === "running");
  return running.length === 1 ? (running[0]?.id ?? null) : null;
}

function withTool(
  tools: readonly ToolView[],
  id: string,
  event: RunEvent,
  change: Partial<ToolView>,
  stepId: string | null,
): readonly ToolView[] {
  const at = tools.findLastIndex((tool) => tool.id === id);
  const { tool: name } = event.payload;
  const before: ToolView = tools[at] ?? {
    id,
    name: textOf(name) || "tool",
    status: "running",
    stepId,
    input: null,
    output: null,
    error: null,
    startedAt: event.ts,
    endedAt: null,
  };
  const after = { ...before, ...change };
  return at < 0 ? [...tools, after] : tools.with(at, after);
}

function keepLogs(draft: Draft, lines: readonly LogLine[]): void {
  if (lines.length === 0) return;
  const all = [...draft.logs, ...lines];
  draft.logs = all.slice(-MAX_LOG_LINES);
  draft.droppedLogs += all.length - draft.logs.length;
}

function readLogLine({ seq, ts, payload }: RunEvent): LogLine {
  const text = textOf(payload.message) || textOf(payload.text) || JSON.stringify(payload);
  return { seq, ts, level: textOf(payload.level).toLowerCase() || "info", text };
}

function readProgress(payload: Payload): Progress {
  const { value, total, message } = payload;
  return {
    value: typeof value === "number" ? value : 0,
    total: typeof total === "number" && total > 0 ? total : null,
    message: typeof message === "string" && message ? message : null,
  };
}

function nameOfPlanned(step: unknown): string {
  if (!isObject(step)) return textOf(step) || "step";
  return textOf(step.name) || textOf(step.title) || textOf(step.tool) || "step";
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
