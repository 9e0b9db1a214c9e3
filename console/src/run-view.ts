/** What one run's page shows, as plain values, and how each of them begins. `run-state.ts` changes them. */

import { type Cursor, type Payload, type RunError, type RunStatus, START } from "./wire";

export interface Progress {
  readonly value: number;
  readonly total: number | null;
  readonly message: string | null;
}

export type ToolStatus = "running" | "succeeded" | "failed";

export interface ToolView {
  readonly id: string;
  readonly name: string;
  readonly status: ToolStatus;
  readonly stepId: string | null;
  readonly input: unknown;
  readonly output: unknown;
  readonly error: RunError | null;
  readonly startedAt: string;
  readonly endedAt: string | null;
}

/** `waiting`: a new attempt has taken the step back and will come to it again. */
export type StepStatus = "waiting" | "running" | "succeeded" | "failed" | "canceled";

export interface StepView {
  readonly id: string;
  readonly name: string;
  readonly index: number;
  readonly status: StepStatus;
  readonly willRetry: boolean;
  /** When it is tried again, if that is known. */
  readonly retryAt: string | null;
  /** 1, and one more each time it is tried again. */
  readonly tries: number;
  readonly parentId: string | null;
  readonly input: unknown;
  readonly output: unknown;
  readonly error: RunError | null;
  readonly progress: Progress | null;
  readonly tools: readonly ToolView[];
  readonly startedAt: string | null;
  readonly endedAt: string | null;
}

export interface MessageView {
  readonly id: string;
  readonly stepId: string | null;
  readonly text: string;
  readonly isComplete: boolean;
}

export interface LogLine {
  readonly seq: number;
  readonly ts: string;
  readonly level: string;
  readonly text: string;
  /** What was said with it, as JSON; empty if nothing was. */
  readonly data: string;
}

export interface Artifact {
  readonly id: string;
  readonly name: string;
  readonly contentType: string | null;
  readonly bytes: number | null;
  readonly url: string | null;
}

/** Why the run is tried again, and when. */
export interface Retry {
  readonly reason: string;
  readonly error: RunError | null;
  readonly at: string | null;
}

export interface ChildView {
  readonly runId: string;
  readonly runner: string;
  /** Null until it has ended, or the API has told. */
  readonly status: string | null;
}

/** `answered`: somebody has answered, and the run has not yet gone on. */
export type RequestState = "open" | "answered" | "resolved" | "expired";

export interface RequestView {
  readonly id: string;
  readonly kind: "approval" | "input";
  readonly prompt: string;
  readonly schema: Payload;
  readonly preview: unknown;
  readonly askedAt: string;
  readonly expiresAt: string | null;
  readonly state: RequestState;
  readonly answer: unknown;
  readonly answeredBy: string | null;
  readonly answeredAt: string | null;
}

export interface RunView {
  readonly runId: string;
  readonly cursor: Cursor;
  /** The seq up to which `status` is known; a fact may know more than the events that have arrived. */
  readonly statusSeq: number;
  readonly status: RunStatus | null;
  readonly attempt: number;
  readonly runner: string | null;
  readonly prompt: string | null;
  readonly input: unknown;
  readonly tags: readonly string[];
  readonly output: unknown;
  readonly error: RunError | null;
  readonly createdAt: string | null;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  readonly parentId: string | null;
  readonly dueAt: string | null;
  readonly retry: Retry | null;
  readonly plan: readonly string[];
  readonly steps: readonly StepView[];
  readonly tools: readonly ToolView[];
  readonly messages: readonly MessageView[];
  readonly progress: Progress | null;
  readonly requests: readonly RequestView[];
  readonly children: readonly ChildView[];
  readonly logs: readonly LogLine[];
  readonly droppedLogs: number;
  readonly artifacts: readonly Artifact[];
  readonly usage: Payload | null;
  /** Whether some step of it can be undone; only the API knows. */
  readonly hasUndo: boolean;
}

/** A view that is being changed. */
export type Draft = { -readonly [Key in keyof RunView]: RunView[Key] };

export function createView(runId: string): RunView {
  return {
    runId,
    cursor: START,
    statusSeq: 0,
    status: null,
    attempt: 0,
    runner: null,
    prompt: null,
    input: null,
    tags: [],
    output: null,
    error: null,
    createdAt: null,
    startedAt: null,
    endedAt: null,
    parentId: null,
    dueAt: null,
    retry: null,
    plan: [],
    steps: [],
    tools: [],
    messages: [],
    progress: null,
    requests: [],
    children: [],
    logs: [],
    droppedLogs: 0,
    artifacts: [],
    usage: null,
    hasUndo: false,
  };
}

/** A step of which nothing has happened yet. */
export function blankStep(id: string, index: number): StepView {
  return {
    id,
    name: id,
    index,
    status: "waiting",
    willRetry: false,
    retryAt: null,
    tries: 1,
    parentId: null,
    input: null,
    output: null,
    error: null,
    progress: null,
    tools: [],
    startedAt: null,
    endedAt: null,
  };
}
