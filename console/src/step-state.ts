/**
 * What the steps of a run and the tools called in them come to. Pure; `run-state.ts` says which event goes where.
 *
 * A step that starts again, or is taken back, keeps its place.
 */

import { momentAfter, numberOrNull, stepIdOf, textOf, textOrNull } from "./payload";
import { blankStep, type Draft, type Progress, type StepView, type ToolView } from "./run-view";
import { type Payload, readError, type RunEvent } from "./wire";

export function startStep(draft: Draft, event: RunEvent): void {
  const id = stepIdOf(event);
  if (!id) return;
  const { name, index, input, parentId, try: tries } = event.payload;
  const at = findStep(draft, id);
  const step: StepView = {
    ...blankStep(id, typeof index === "number" ? index : draft.steps.length + 1),
    name: textOf(name) || id,
    status: "running",
    input: input ?? null,
    parentId: textOrNull(parentId),
    tries: numberOrNull(tries) ?? 1,
    startedAt: event.ts,
  };
  draft.steps = at < 0 ? [...draft.steps, step] : draft.steps.with(at, step);
}

export function resetStep(draft: Draft, event: RunEvent): void {
  const id = stepIdOf(event);
  changeStep(draft, event, ({ name, index, input, parentId }) => ({ ...blankStep(id ?? "", index), name, input, parentId }));
  draft.messages = draft.messages.filter((message) => message.isComplete || message.stepId !== id);
}

export function changeStep(draft: Draft, event: RunEvent, change: (step: StepView) => Partial<StepView>): void {
  const at = findStep(draft, stepIdOf(event));
  const step = draft.steps[at];
  if (step) draft.steps = draft.steps.with(at, { ...step, ...change(step) });
}

export function findStep(draft: Draft, id: string | null): number {
  return id === null ? -1 : draft.steps.findLastIndex((step) => step.id === id);
}

export function succeedStep(draft: Draft, event: RunEvent): void {
  const { output } = event.payload;
  changeStep(draft, event, () => ({ status: "succeeded", output, error: null, progress: null, endedAt: event.ts }));
}

export function failStep(draft: Draft, event: RunEvent): void {
  const error = readError(event.payload.error);
  const status = error.code === "canceled" ? "canceled" : "failed";
  const willRetry = event.payload.willRetry === true;
  const retryAt = willRetry ? momentAfter(event.ts, event.payload.retryInMs) : null;
  changeStep(draft, event, () => ({ status, error, willRetry, retryAt, progress: null, endedAt: event.ts }));
}

/** Progress that names a step is that step's; else it is the run's own. */
export function reduceProgress(draft: Draft, event: RunEvent): void {
  const progress = readProgress(event.payload);
  const at = findStep(draft, stepIdOf(event));
  const step = draft.steps[at];
  if (step) draft.steps = draft.steps.with(at, { ...step, progress });
  else draft.progress = progress;
}

/** A tool call stands with its step, or by itself if no such step is there. */
export function putTool(draft: Draft, event: RunEvent, change: Partial<ToolView>): void {
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
  const all = draft.steps.filter((step) => step.status === "running");
  const running = all.filter((step) => all.every((other) => other.parentId !== step.id)); // the innermost
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

export function readProgress(payload: Payload): Progress {
  const { value, total, message } = payload;
  return {
    value: typeof value === "number" ? value : 0,
    total: typeof total === "number" && total > 0 ? total : null,
    message: typeof message === "string" && message ? message : null,
  };
}

