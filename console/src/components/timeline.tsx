/** The steps of a run, as they happen and as the plan has them. */

import { memo, type ReactNode } from "react";
import type { Progress, StepStatus, StepView, ToolView } from "../run-view";
import { isObject } from "../wire";
import { nestSteps } from "../step-tree";
import { Countdown, Elapsed } from "./elapsed";
import { CheckIcon, ChevronIcon, CrossIcon, MinusIcon, RepeatIcon, SpinnerIcon, ToolIcon } from "./icons";
import { JsonView } from "./json-view";
import { Tail } from "./tail";

/** So many steps are drawn at once. */
const MAX_STEPS = 200;

interface TimelineProps {
  readonly steps: readonly StepView[];
  readonly planned: readonly string[];
  readonly hasEnded: boolean;
}

export function Timeline({ steps, planned, hasEnded }: TimelineProps): ReactNode {
  return (
    <ol className="timeline">
      <Tail items={nestSteps(steps)} limit={MAX_STEPS} noun="steps">
        {({ step, depth }) => <StepItem key={step.id} step={step} depth={depth} hasEnded={hasEnded} />}
      </Tail>
      {planned.map((name, place) => (
        <li key={`planned-${steps.length + place}`} className="step step-planned">
          <span className="step-mark" aria-hidden="true" />
          <div className="step-head">
            <span className="step-name">{name}</span>
            <span className="step-state">{hasEnded ? "not begun" : "planned"}</span>
          </div>
        </li>
      ))}
    </ol>
  );
}

type ShownStatus = StepStatus | "stopped";

const MARKS: Readonly<Record<ShownStatus, () => ReactNode>> = {
  waiting: MinusIcon,
  running: SpinnerIcon,
  succeeded: CheckIcon,
  failed: CrossIcon,
  canceled: MinusIcon,
  stopped: MinusIcon,
};

interface StepItemProps {
  readonly step: StepView;
  readonly depth: number;
  readonly hasEnded: boolean;
}

const StepItem = memo(function StepItem({ step, depth, hasEnded }: StepItemProps): ReactNode {
  // A step that its run left behind doesn't tick on for ever.
  const status: ShownStatus = hasEnded && step.status === "running" ? "stopped" : step.status;
  const Mark = step.willRetry && !hasEnded ? RepeatIcon : MARKS[status];
  const hasDetails = step.input !== null || hasValue(step.output);
  const head = (
    <>
      <span className="step-name">{step.name}</span>
      {isDryRun(step.output) && (
        <span className="tag" title="Nothing was sent: the tool has no credentials">
          dry run
        </span>
      )}
      {step.tries > 1 && <span className="tag">try {step.tries}</span>}
      <span className="step-state">
        {describeState(step, status)}
        {step.retryAt && !hasEnded && <Countdown to={step.retryAt} before=" in " />}
      </span>
      {status !== "stopped" && <Elapsed from={step.startedAt} to={step.endedAt} />}
    </>
  );
  return (
    <li className={`step step-${step.willRetry && !hasEnded ? "retrying" : status} step-depth-${depth}`} data-testid="step-item" data-status={status} data-depth={depth}>
      <span className="step-mark" aria-hidden="true">
        <Mark />
      </span>
      {hasDetails ? (
        <details className="step-details">
          <summary className="step-head">
            {head}
            <ChevronIcon />
          </summary>
          <StepValues input={step.input} output={step.output} />
        </details>
      ) : (
        <div className="step-head">{head}</div>
      )}
      {step.error && status !== "canceled" && <p className="step-error">{step.error.message}</p>}
      {step.progress && <Meter progress={step.progress} label={`Progress of ${step.name}`} />}
      {step.tools.length > 0 && <ToolList tools={step.tools} hasEnded={status !== "running"} />}
    </li>
  );
});

function StepValues({ input, output }: { input: unknown; output: unknown }): ReactNode {
  return (
    <div className="values">
      {input !== null && <Value label="Input" value={plainInput(input)} />}
      {hasValue(output) && <Value label="Output" value={output} />}
    </div>
  );
}

function Value({ label, value }: { label: string; value: unknown }): ReactNode {
  return (
    <div>
      <h4 className="value-label">{label}</h4>
      <JsonView value={value} />
    </div>
  );
}

export function ToolList({ tools, hasEnded }: { tools: readonly ToolView[]; hasEnded: boolean }): ReactNode {
  return (
    <ul className="tools">
      {tools.map((tool) => (
        <li key={tool.id} className={`tool tool-${tool.status}`} data-testid="tool-item">
          <details>
            <summary className="tool-head">
              <ToolIcon />
              <span className="tool-name">{tool.name}</span>
              <span className="step-state">{hasEnded && tool.status === "running" ? "stopped" : tool.status}</span>
              <ChevronIcon />
            </summary>
            <StepValues input={tool.input ?? null} output={tool.error ?? tool.output} />
          </details>
        </li>
      ))}
    </ul>
  );
}

export function ProgressBar({ progress, label }: { progress: Progress; label: string }): ReactNode {
  return (
    <div className="progress">
      <Meter progress={progress} label={label} />
      <span className="progress-text">{describeProgress(progress)}</span>
    </div>
  );
}

/** Without a total it shows that something moves, not how far. */
function Meter({ progress: { value, total }, label }: { progress: Progress; label: string }): ReactNode {
  return <progress aria-label={label} {...(total === null ? {} : { value: Math.min(value, total), max: total })} />;
}

function describeProgress({ value, total, message }: Progress): string {
  return message ?? (total === null ? String(value) : `${Math.floor((100 * value) / total)} %`);
}

function describeState(step: StepView, status: ShownStatus): string {
  if (step.willRetry) return "will be tried again";
  return step.progress && status === "running" ? describeProgress(step.progress) : status;
}

/** Arguments come as {args, kwargs}; where one of the two says it all, only that one is shown. */
function plainInput(input: unknown): unknown {
  if (!isObject(input) || !Array.isArray(input.args) || !isObject(input.kwargs)) return input;
  if (Object.keys(input.kwargs).length > 0) return input.args.length > 0 ? input : input.kwargs;
  return input.args.length === 1 ? input.args[0] : input.args;
}

function hasValue(value: unknown): boolean {
  return value !== null && value !== undefined;
}

function isDryRun(output: unknown): boolean {
  return isObject(output) && output.dryRun === true;
}
