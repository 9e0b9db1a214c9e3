import { describe, expect, it } from "vitest";
import { applyEvents, applyRun, applyStatus, applyStored, MAX_LOG_LINES, plannedSteps, refold } from "./run-state";
import { createView } from "./run-view";
import { nestSteps } from "./step-tree";
import type { Payload, Run, RunEvent } from "./wire";

const TS = "2026-01-01T00:00:00.000Z";

/** Events numbered from 1, or from where it is said. */
function events(list: readonly [type: string, payload: Payload, stepId?: string][], from = 1, attempt = 1): RunEvent[] {
  return list.map(([type, payload, stepId], place) => ({
    type,
    payload,
    ts: TS,
    runId: "r",
    seq: from + place,
    attempt,
    ...(stepId === undefined ? {} : { stepId }),
  }));
}

const RUN: Run = {
  runId: "r",
  runner: "prompt",
  status: "done",
  attempt: 1,
  prompt: "do it",
  input: { prompt: "do it" },
  tags: ["a"],
  output: { ok: true },
  error: null,
  lastSeq: 9,
  createdAt: TS,
  startedAt: TS,
  endedAt: TS,
};

describe("status", () => {
  it("follows the run from queued to done and keeps its output", () => {
    const view = applyEvents(
      createView("r"),
      events([
        ["run_status", { status: "queued" }],
        ["run_status", { status: "running" }],
        ["run_completed", { status: "done", output: { n: 1 } }],
      ]),
    );
    expect(view).toMatchObject({ status: "done", output: { n: 1 }, startedAt: TS, endedAt: TS });
    expect(view.cursor).toEqual({ attempt: 1, seq: 3 });
  });

  it("keeps the error of a run that failed", () => {
    const error = { code: "boom", message: "it broke" };
    const view = applyEvents(createView("r"), events([["run_status", { status: "failed", error }]]));
    expect(view).toMatchObject({ status: "failed", error });
  });

  it("does not go back to running while the log of an ended run is replayed", () => {
    const known = applyRun(createView("r"), RUN);
    expect(applyEvents(known, events([["run_status", { status: "running" }]])).status).toBe("done");
  });

  it("is not taken back by an answer of the API that is older than the events", () => {
    const view = applyEvents(createView("r"), events([["run_status", { status: "failed" }]], 10));
    expect(applyRun(view, { ...RUN, status: "running" })).toMatchObject({ status: "failed", prompt: "do it" });
  });

  it("is learned from a heartbeat, but never from one that knows less", () => {
    const view = applyEvents(createView("r"), events([["run_status", { status: "running" }]], 2));
    expect(applyStatus(view, "done", 5).status).toBe("done");
    expect(applyStatus(view, "queued", 1)).toBe(view);
    expect(applyStatus(view, "no such status", 9)).toBe(view);
  });

  it("ignores types that it doesn't know, except for the cursor", () => {
    const before = createView("r");
    const after = applyEvents(before, events([["from_the_future", { any: 1 }], ["custom", { name: "x" }]]));
    expect(after).toEqual({ ...before, cursor: { attempt: 1, seq: 2 } });
  });

  it("survives payloads of any shape", () => {
    const types = [
      ...["run_status", "run_completed", "step_started", "step_progress", "step_succeeded", "step_failed", "step_reset"],
      ...["message_started", "message_delta", "message_completed", "tool_started", "tool_completed", "tool_failed"],
      ...["plan_generated", "progress", "log", "artifact", "usage", "input_requested", "input_resolved"],
      ...["child_started", "child_ended"],
    ];
    const payloads: Payload[] = [{}, { stepId: 1, steps: 2, error: 3 }, { stepId: "s", steps: [null, 1], url: "javascript:x" }];
    const all = payloads.flatMap((payload) => types.map((type): [string, Payload] => [type, payload]));
    const view = applyEvents(createView("r"), events(all));
    expect(view.cursor.seq).toBe(all.length);
    expect(view.artifacts.every((artifact) => artifact.url === null)).toBe(true);
  });
});

describe("steps", () => {
  const started = events([
    ["step_started", { stepId: "step-1", name: "fetch", index: 1, input: { url: "x" } }],
    ["step_started", { stepId: "step-2", name: "send", index: 2 }],
  ]);

  it("succeed, fail and show progress each for itself", () => {
    const view = applyEvents(createView("r"), [
      ...started,
      ...events(
        [
          ["step_progress", { value: 1, total: 4 }, "step-2"],
          ["step_succeeded", { stepId: "step-1", output: 7 }],
          ["step_failed", { stepId: "step-2", error: { code: "e", message: "m" }, willRetry: true }],
        ],
        3,
      ),
    ]);
    expect(view.steps[0]).toMatchObject({ name: "fetch", status: "succeeded", output: 7, input: { url: "x" } });
    expect(view.steps[1]).toMatchObject({ status: "failed", willRetry: true, error: { message: "m" }, progress: null });
  });

  it("that a batch doesn't touch keep their identity", () => {
    const before = applyEvents(createView("r"), started);
    const after = applyEvents(before, events([["step_succeeded", { stepId: "step-2", output: 1 }]], 3));
    expect(after.steps[0]).toBe(before.steps[0]);
    expect(after.steps[1]).not.toBe(before.steps[1]);
    expect(before.steps[1]?.status).toBe("running");
  });

  it("that were canceled with their run are not shown as failed", () => {
    const canceled = events([["step_failed", { stepId: "step-1", error: { code: "canceled", message: "" } }]], 3);
    expect(applyEvents(createView("r"), [...started, ...canceled]).steps[0]?.status).toBe("canceled");
  });

  it("lose their output when a new attempt takes them back, and take their old place again", () => {
    const first = applyEvents(createView("r"), [
      ...started,
      ...events([["step_succeeded", { stepId: "step-1", output: 7 }], ["message_delta", { messageId: "m", delta: "x" }, "step-1"]], 3),
    ]);
    const reset = applyEvents(first, events([["run_status", { status: "retrying" }], ["step_reset", { stepId: "step-1" }]], 5, 2));
    expect(reset.steps[0]).toMatchObject({ name: "fetch", status: "waiting", output: null });
    expect(reset.messages).toEqual([]);
    const again = applyEvents(reset, events([["step_started", { stepId: "step-1", name: "fetch", index: 1 }]], 7, 2));
    expect(again.steps.map((step) => [step.id, step.status])).toEqual([["step-1", "running"], ["step-2", "running"]]);
  });

  it("lose their text when they are taken back alone", () => {
    const said = events([["message_delta", { messageId: "m", delta: "x" }, "step-1"], ["message_delta", { messageId: "n", delta: "y" }]], 3);
    const view = applyEvents(createView("r"), [...started, ...said, ...events([["step_reset", { stepId: "step-1" }]], 5)]);
    expect(view.messages.map(({ id }) => id)).toEqual(["n"]);
  });

  it("hold the tool calls made in them, also those that don't name their step", () => {
    const view = applyEvents(createView("r"), [
      ...started.slice(0, 1),
      ...events([["tool_started", { toolCallId: "t", tool: "http", input: 1 }], ["tool_completed", { toolCallId: "t", output: 2 }]], 2),
    ]);
    expect(view.steps[0]?.tools).toMatchObject([{ name: "http", status: "succeeded", input: 1, output: 2 }]);
    expect(view.tools).toEqual([]);
  });

  it("show the progress that names them; otherwise it is the run's", () => {
    const own = applyEvents(createView("r"), [...started, ...events([["progress", { value: 1, total: 3 }, "step-1"]], 9)]);
    expect([own.steps[0]?.progress?.value, own.progress]).toEqual([1, null]);
    const runs = applyEvents(createView("r"), [...started.slice(0, 1), ...events([["progress", { value: 1 }]], 9)]);
    expect([runs.steps[0]?.progress, runs.progress?.value]).toEqual([null, 1]);
  });

  it("of the plan are shown until they begin", () => {
    const plan = events([["plan_generated", { steps: [{ name: "fetch" }, { title: "send" }, {}] }]]);
    const view = applyEvents(applyEvents(createView("r"), plan), started.slice(0, 1));
    expect(plannedSteps(view)).toEqual(["send", "step"]);
  });

  it("come from the API where a snapshot stands in for their events", () => {
    const stored = {
      ...{ stepId: "step-1", name: "fetch", index: 1, status: "succeeded" as const, input: null, output: 7, error: null },
      ...{ startedAt: TS, endedAt: TS },
    };
    const view = applyStored(createView("r"), { steps: [stored] }, { attempt: 1, seq: 40 });
    expect(view.steps).toMatchObject([{ id: "step-1", status: "succeeded", output: 7, tools: [] }]);
    expect(view.cursor.seq).toBe(40);
  });
});

describe("text and log", () => {
  it("puts streamed text together by message", () => {
    const view = applyEvents(
      createView("r"),
      events([
        ["message_started", { messageId: "a" }],
        ["message_delta", { messageId: "a", delta: "Hel" }],
        ["message_delta", { messageId: "b", delta: "Other" }],
        ["message_delta", { messageId: "a", delta: "lo" }],
        ["message_completed", { messageId: "a", text: "Hello." }],
      ]),
    );
    expect(view.messages).toMatchObject([
      { id: "a", text: "Hello.", isComplete: true },
      { id: "b", text: "Other", isComplete: false },
    ]);
  });

  it("is taken back when a new attempt begins; the log lines stay, and what was said to its end", () => {
    const first = events([
      ["message_delta", { messageId: "m", delta: "x" }],
      ["log", { message: "kept" }],
      ["progress", { value: 1 }],
      ["message_completed", { messageId: "n", text: "said" }],
    ]);
    for (const status of ["retrying", "running"]) {
      const view = applyEvents(createView("r"), [...first, ...events([["run_status", { status }]], 5, 2)]);
      expect(view).toMatchObject({ messages: [{ id: "n", text: "said" }], progress: null, attempt: 2, logs: [{ text: "kept" }] });
    }
  });

  it("keeps the last log lines and counts the others", () => {
    const lines = Array.from({ length: MAX_LOG_LINES + 5 }, (_, n): [string, Payload] => ["log", { message: `line ${n}` }]);
    const view = applyEvents(createView("r"), events(lines));
    expect([view.logs.length, view.droppedLogs, view.logs[0]?.text]).toEqual([MAX_LOG_LINES, 5, "line 5"]);
  });

  it("folds a long run of small batches quickly", () => {
    let view = createView("r");
    const begun = performance.now();
    for (let seq = 1; seq <= 5_000; seq += 1) {
      view = applyEvents(view, events([["message_delta", { messageId: "m", delta: "word " }]], seq));
    }
    expect(view.messages[0]?.text.length).toBe(25_000);
    expect(performance.now() - begun).toBeLessThan(1_000);
  });
});

describe("what a run waits for", () => {
  const ask = { requestId: "request-1", kind: "approval", prompt: "Send?", schema: { type: "object" }, preview: "Dear Ada" };

  it("is a question until it is resolved; then who answered what, and when", () => {
    const asked = applyEvents(createView("r"), events([["input_requested", { ...ask, expiresAt: TS }]]));
    expect(asked.requests).toMatchObject([{ id: "request-1", kind: "approval", state: "open", preview: "Dear Ada", expiresAt: TS }]);
    const value = { approved: true, comment: "fine" };
    const answered = applyEvents(asked, events([["input_resolved", { requestId: "request-1", resolution: "answered", value, by: "Bob" }]], 2));
    expect(answered.requests).toMatchObject([{ state: "resolved", answer: value, answeredBy: "Bob", answeredAt: TS }]);
    const expired = applyEvents(asked, events([["input_resolved", { requestId: "request-1", resolution: "expired" }]], 2));
    expect(expired.requests[0]?.state).toBe("expired");
  });

  it("is answered as soon as the database says so, though the run has yet to go on", () => {
    const asked = applyEvents(createView("r"), events([["input_requested", ask]]));
    const stored = { ...ask, askedAt: TS, expiresAt: null, answer: { value: { approved: false }, at: TS, by: null } };
    const run = { ...RUN, status: "awaiting_approval" as const, requests: [stored] };
    expect(applyRun(asked, run).requests).toMatchObject([{ state: "answered", answer: { approved: false } }]);
    expect(applyStored(createView("r"), { steps: [], requests: [stored] }, { attempt: 1, seq: 3 }).requests[0]?.state).toBe("answered");
  });

  it("is not asked any more when the run has ended", () => {
    const view = applyEvents(createView("r"), events([["input_requested", ask], ["run_status", { status: "canceled" }]]));
    expect(view.requests).toEqual([]);
  });

  it("is a time, or another try and why; both are gone when it goes on", () => {
    const error = { code: "boom", message: "it broke" };
    const delayed = applyEvents(createView("r"), events([["run_status", { status: "delayed", dueAt: TS }]]));
    expect(delayed.dueAt).toBe(TS);
    const retry = { status: "retrying", reason: "failed", error, retryInMs: 1500 };
    const retrying = applyEvents(delayed, events([["run_status", retry]], 2, 2));
    const at = "2026-01-01T00:00:01.500Z";
    expect(retrying).toMatchObject({ dueAt: null, error: null, retry: { reason: "failed", error, at } });
    expect(applyEvents(retrying, events([["run_status", { status: "running" }]], 3, 2)).retry).toBeNull();
  });
});

describe("what a run has made and begun", () => {
  it("is its files, by id; addresses that are no page are left out", () => {
    const file = { artifactId: "a1", name: "out.png", contentType: "image/png", bytes: 9, url: "/runs/r/artifacts/a1" };
    const log = events([["artifact", file], ["artifact", { ...file, bytes: 10 }], ["artifact", { artifactId: "a2", url: "//elsewhere" }]]);
    expect(applyEvents(createView("r"), log).artifacts).toEqual([
      { id: "a1", name: "out.png", contentType: "image/png", bytes: 10, url: "/runs/r/artifacts/a1" },
      { id: "a2", name: "artifact", contentType: null, bytes: null, url: null },
    ]);
  });

  it("is other runs, and how they ended, from events and from the database", () => {
    const started = applyEvents(createView("r"), events([["child_started", { runId: "c", runner: "resize" }]]));
    expect(started.children).toEqual([{ runId: "c", runner: "resize", status: null }]);
    const ended = applyEvents(started, events([["child_ended", { runId: "c", status: "failed" }]], 2));
    const children = [{ runId: "c", runner: "resize", status: "running" }, { runId: "u", runner: "undo", status: "done" }];
    expect(applyRun(ended, { ...RUN, children }).children.map(({ runId, status }) => [runId, status])).toEqual([
      ["c", "failed"],
      ["u", "done"],
    ]);
  });

  it("can be undone if a step that succeeded has an undo", () => {
    const step = { stepId: "s", name: "a", index: 1, input: null, output: 1, error: null, startedAt: TS, endedAt: TS };
    const undoable = (status: "failed" | "succeeded"): boolean =>
      applyRun(createView("r"), { ...RUN, steps: [{ ...step, status, hasUndo: true }] }).hasUndo;
    expect([undoable("succeeded"), undoable("failed")]).toEqual([true, false]);
  });

  it("adds up what it has used", () => {
    const usage = { model: "small", inputTokens: 10 };
    const view = applyEvents(createView("r"), events([["usage", usage], ["usage", { ...usage, model: "large", outputTokens: 3 }]]));
    expect(view.usage).toEqual({ model: "large", inputTokens: 20, outputTokens: 3 });
  });
});

describe("a step", () => {
  it("that failed and is tried again says when, and then which try it is, in its old place", () => {
    const log = events([
      ["step_started", { stepId: "s1", name: "fetch", index: 1 }],
      ["step_failed", { stepId: "s1", error: { code: "e", message: "m" }, willRetry: true, retryInMs: 2000 }],
      ["step_started", { stepId: "s1", name: "fetch", index: 1, try: 2 }],
    ]);
    expect(applyEvents(createView("r"), log.slice(0, 2)).steps[0]).toMatchObject({ willRetry: true, retryAt: "2026-01-01T00:00:02.000Z" });
    expect(applyEvents(createView("r"), log).steps).toMatchObject([{ status: "running", tries: 2, retryAt: null, willRetry: false }]);
  });

  it("that is part of another stands below it, and has the tools that are called in it", () => {
    const view = applyEvents(
      createView("r"),
      events([
        ["step_started", { stepId: "s1", name: "all", index: 1 }],
        ["step_started", { stepId: "s2", name: "other", index: 2 }],
        ["step_succeeded", { stepId: "s2", output: 1 }],
        ["step_started", { stepId: "s3", name: "part", index: 3, parentId: "s1" }],
        ["tool_started", { toolCallId: "t", tool: "http" }],
      ]),
    );
    expect(nestSteps(view.steps).map(({ step, depth }) => [step.id, depth])).toEqual([["s1", 0], ["s3", 1], ["s2", 0]]);
    expect(view.steps[2]?.tools).toMatchObject([{ id: "t" }]);
  });
});

describe("rewind", () => {
  it("leaves what the remaining events say, and what the API said of the run's origin", () => {
    const log = events([
      ["run_status", { status: "running" }],
      ["step_started", { stepId: "step-1", name: "fetch", index: 1 }],
      ["step_succeeded", { stepId: "step-1", output: 7 }],
    ]);
    const view = applyEvents(applyRun(createView("r"), { ...RUN, status: "running", lastSeq: 1 }), log);
    const back = refold(view, log.slice(0, 2));
    expect(back).toMatchObject({ prompt: "do it", status: "running", cursor: { seq: 2 } });
    expect(back.steps).toMatchObject([{ status: "running", output: null }]);
  });
});
