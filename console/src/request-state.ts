/**
 * What a run asks people, the runs it starts and the files it makes. Pure; `run-state.ts` says which event goes where.
 *
 * A question outlives its attempt: it is open until it is resolved, or the run has ended.
 */

import type { StoredChild, StoredRequest } from "./api";
import { numberOrNull, objectOf, readAddress, textOf, textOrNull } from "./payload";
import type { ChildView, Draft, RequestView } from "./run-view";
import { isFinal, type RunEvent } from "./wire";

export function openRequest(draft: Draft, { payload, ts }: RunEvent): void {
  const id = textOf(payload.requestId);
  const request: RequestView = {
    id,
    kind: payload.kind === "approval" ? "approval" : "input",
    prompt: textOf(payload.prompt) || "The run is waiting for an answer.",
    schema: objectOf(payload.schema),
    preview: payload.preview ?? null,
    askedAt: ts,
    expiresAt: textOrNull(payload.expiresAt),
    state: "open",
    answer: null,
    answeredBy: null,
    answeredAt: null,
  };
  const at = draft.requests.findIndex((known) => known.id === id);
  draft.requests = at < 0 ? [...draft.requests, request] : draft.requests.with(at, request);
}

export function resolveRequest(draft: Draft, { payload, ts }: RunEvent): void {
  const id = textOf(payload.requestId);
  const isExpired = payload.resolution === "expired";
  draft.requests = draft.requests.map((known) =>
    known.id !== id
      ? known
      : {
          ...known,
          state: isExpired ? "expired" : "resolved",
          answer: payload.value ?? null,
          answeredBy: textOrNull(payload.by),
          answeredAt: known.answeredAt ?? ts,
        },
  );
}

/** What the database knows of the answers: somebody may have answered before the run could go on. */
export function mergeRequests(known: readonly RequestView[], stored: readonly StoredRequest[]): readonly RequestView[] {
  const answers = new Map(stored.map((request) => [request.requestId, request.answer]));
  return known.map((request) => {
    const answer = answers.get(request.id);
    if (!answer || request.state === "expired") return request;
    const state = request.state === "open" ? "answered" : request.state;
    return { ...request, state, answer: answer.value, answeredBy: answer.by, answeredAt: answer.at };
  });
}

export function readStoredRequest(stored: StoredRequest): RequestView {
  const { requestId: id, prompt, schema, askedAt, expiresAt } = stored;
  const kind = stored.kind === "approval" ? "approval" : "input";
  const state = !stored.resolved ? "open" : stored.answer ? "resolved" : "expired";
  const blank = { state, answer: null, answeredBy: null, answeredAt: null } as const;
  return { id, kind, prompt, schema, preview: stored.preview ?? null, askedAt, expiresAt, ...blank };
}

export function addChild(draft: Draft, { payload }: RunEvent): void {
  const runId = textOf(payload.runId);
  if (!runId || draft.children.some((child) => child.runId === runId)) return;
  draft.children = [...draft.children, { runId, runner: textOf(payload.runner) || "run", status: null }];
}

export function endChild(draft: Draft, event: RunEvent): void {
  addChild(draft, event);
  const { runId, status } = event.payload;
  draft.children = draft.children.map((child) =>
    child.runId === runId ? { ...child, status: textOrNull(status) ?? child.status } : child,
  );
}

/** What an event told of an end stays; for the rest the database knows more. */
export function mergeChildren(known: readonly ChildView[], stored: readonly StoredChild[]): readonly ChildView[] {
  const ended = new Map(known.filter((child) => isFinal(child.status)).map((child) => [child.runId, child]));
  const told = new Set(stored.map((child) => child.runId));
  return [...stored.map((child) => ended.get(child.runId) ?? child), ...known.filter((child) => !told.has(child.runId))];
}

export function addArtifact(draft: Draft, { payload, seq }: RunEvent): void {
  const url = readAddress(payload.url);
  const id = textOf(payload.artifactId) || String(seq);
  const artifact = {
    id,
    name: textOf(payload.name) || url || "artifact",
    contentType: textOrNull(payload.contentType),
    bytes: numberOrNull(payload.bytes),
    url,
  };
  const at = draft.artifacts.findIndex((known) => known.id === id);
  draft.artifacts = at < 0 ? [...draft.artifacts, artifact] : draft.artifacts.with(at, artifact);
}

/** Figures add up; what isn't a number is the last one told. */
export function addUsage(draft: Draft, { payload }: RunEvent): void {
  const usage: Record<string, unknown> = { ...draft.usage };
  for (const [name, value] of Object.entries(payload)) {
    const before = usage[name];
    usage[name] = typeof value === "number" && typeof before === "number" ? before + value : value;
  }
  draft.usage = usage;
}
