/** The HTTP API as functions. Whatever goes wrong comes out as an `ApiError` whose message can be shown. */

import { askForKey, readKey } from "./api-key";
import { isObject, type Json, type Run, type RunError, type RunStatus } from "./wire";

const TIMEOUT_MS = 20_000;

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string,
    readonly field: string | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export interface StoredStep {
  readonly stepId: string;
  readonly name: string;
  readonly index: number;
  readonly status: "running" | "succeeded" | "failed" | "canceled";
  readonly input: Json;
  readonly output: Json;
  readonly error: RunError | null;
  readonly startedAt: string | null;
  readonly endedAt: string | null;
  readonly parentId?: string | null;
  readonly hasUndo?: boolean;
}

/** What a run has asked, as the database has it. */
export interface StoredRequest {
  readonly requestId: string;
  readonly kind: string;
  readonly prompt: string;
  readonly schema: Readonly<Record<string, unknown>>;
  readonly preview?: unknown;
  readonly askedAt: string;
  readonly expiresAt: string | null;
  readonly answer: { readonly value: unknown; readonly at: string; readonly by: string | null } | null;
  /** Whether the run knows of the answer, or that it comes too late. */
  readonly resolved?: boolean;
}

export interface StoredChild {
  readonly runId: string;
  readonly runner: string;
  readonly status: string;
}

export interface RunWithSteps extends Run {
  readonly steps: readonly StoredStep[];
  readonly requests?: readonly StoredRequest[];
  readonly children?: readonly StoredChild[];
}

export interface RunPage {
  readonly runs: readonly Run[];
  readonly nextBefore: string | null;
}

export interface Runner {
  readonly name: string;
  readonly description: string;
  readonly inputSchema: Readonly<Record<string, unknown>>;
  readonly retries?: number;
  readonly timeoutSeconds?: number | null;
  readonly cron?: string | null;
}

/** How much a prompt run does by itself: everything, after its plan was approved, or nothing but the plan. */
export const MODES = ["auto", "approval", "preview"] as const;
export type Mode = (typeof MODES)[number];

export interface RunQuery {
  readonly status: RunStatus | "";
  readonly text: string;
}

export interface CreatedRun {
  readonly runId: string;
  readonly status: RunStatus;
}

/** The name of the built-in runner that takes a prompt. */
export const PROMPT_RUNNER = "prompt";

export function listRuns(query: RunQuery, page: { limit: number; before?: string }): Promise<RunPage> {
  const search = new URLSearchParams({ limit: String(page.limit) });
  if (query.status) search.set("status", query.status);
  if (query.text) search.set("q", query.text);
  if (page.before) search.set("before", page.before);
  return request("GET", `/runs?${search}`);
}

export function getRun(runId: string): Promise<RunWithSteps> {
  return request("GET", `/runs/${encodeURIComponent(runId)}`);
}

export function createRun(prompt: string, mode: Mode, idempotencyKey: string): Promise<CreatedRun> {
  return request("POST", "/runs", { prompt, idempotencyKey, ...(mode === "auto" ? {} : { mode }) });
}

export function startRunner(name: string, input: Json, idempotencyKey: string): Promise<CreatedRun> {
  return request("POST", `/runners/${encodeURIComponent(name)}/runs`, { input, idempotencyKey });
}

/** The same again: what a run was asked, as a new run. */
export function repeatRun(run: Pick<Run, "prompt" | "runner" | "tags"> & { input: unknown }): Promise<CreatedRun> {
  const idempotencyKey = newKey();
  if (run.runner === PROMPT_RUNNER && run.prompt !== null) {
    const mode = isObject(run.input) && run.input.mode ? { mode: run.input.mode } : {};
    return request("POST", "/runs", { prompt: run.prompt, tags: run.tags, idempotencyKey, ...mode });
  }
  const path = `/runners/${encodeURIComponent(run.runner)}/runs`;
  return request("POST", path, { input: run.input, tags: run.tags, idempotencyKey });
}

export function cancelRun(runId: string): Promise<CreatedRun> {
  return request("POST", `/runs/${encodeURIComponent(runId)}/cancel`);
}

/** Answer what a run asks. Who answers is said only if somebody has said it. */
export function answerRequest(runId: string, requestId: string, value: Json, by: string): Promise<CreatedRun> {
  const body = { requestId, value, ...(by ? { by } : {}) };
  return request("POST", `/runs/${encodeURIComponent(runId)}/input`, body);
}

/** Start the run that undoes this one, or find the one that was started before. */
export function undoRun(runId: string): Promise<CreatedRun> {
  return request("POST", `/runs/${encodeURIComponent(runId)}/undo`);
}

export async function listRunners(): Promise<readonly Runner[]> {
  const { runners } = await request<{ runners: readonly Runner[] }>("GET", "/runners");
  return runners;
}

/** Not `crypto.randomUUID`: that one is missing on plain http from another machine. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function describeProblem(error: unknown): string {
  return error instanceof Error ? error.message : "Something went wrong.";
}

/** A file of ours, with the key that a link or an image can't send. */
export async function fetchFile(path: string): Promise<Blob> {
  return (await ask("GET", path)).blob();
}

async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  return (await (await ask(method, path, body)).json()) as T;
}

async function ask(method: string, path: string, body?: unknown): Promise<Response> {
  const response = await send(method, path, body);
  if (response.status === 401) {
    await askForKey();
    return ask(method, path, body);
  }
  if (!response.ok) throw await readProblem(response);
  return response;
}

async function send(method: string, path: string, body: unknown): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json" };
  const key = readKey();
  if (key !== null) headers.Authorization = `Bearer ${key}`;
  const init: RequestInit = { method, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) };
  if (body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  try {
    return await fetch(path, init);
  } catch {
    throw new ApiError("The server can’t be reached. Is Runcast running?", 0, "unreachable");
  }
}

async function readProblem(response: Response): Promise<ApiError> {
  const problem: unknown = await response.json().catch(() => null);
  const { title, detail, code, field } = isObject(problem) ? problem : {};
  const message = [detail, title].find((text) => typeof text === "string" && text) as string | undefined;
  return new ApiError(
    message ?? `The server answered ${response.status}.`,
    response.status,
    typeof code === "string" ? code : "http_error",
    typeof field === "string" ? field : null,
  );
}
