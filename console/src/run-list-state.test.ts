import { expect, it } from "vitest";
import { appendPage, applyStatusEvents, EMPTY_LIST, mergeFirstPage, type RunList } from "./run-list-state";
import type { Run, RunEvent } from "./wire";

const TS = "2026-01-01T00:00:00.000Z";
const ALL = { status: "", text: "" } as const;

function run(runId: string, change: Partial<Run> = {}): Run {
  return {
    ...{ runId, runner: "prompt", status: "queued", attempt: 0, prompt: runId, input: {}, tags: [], output: null },
    ...{ error: null, lastSeq: 1, createdAt: TS, startedAt: null, endedAt: null },
    ...change,
  };
}

function status(runId: string, seq: number, word: string): RunEvent {
  return { type: "run_status", payload: { status: word }, ts: TS, runId, seq, attempt: 1 };
}

function listOf(...runs: Run[]): RunList {
  return { runs, nextBefore: null };
}

function idsOf({ runs }: RunList): string[] {
  return runs.map(({ runId }) => runId);
}

it("changes a run by an event that is newer than what is known of it", () => {
  const { list, hasStrangers } = applyStatusEvents(listOf(run("a"), run("b")), [status("b", 2, "running")], ALL);
  expect(list.runs.map((each) => each.status)).toEqual(["queued", "running"]);
  expect(hasStrangers).toBe(false);
});

it("leaves a run alone that is known better than the event tells", () => {
  const known = run("a", { status: "done", lastSeq: 9 });
  expect(applyStatusEvents(listOf(known), [status("a", 2, "running")], ALL).list.runs[0]).toBe(known);
});

it("tells of new runs that it lacks, not of old ones", () => {
  expect(applyStatusEvents(EMPTY_LIST, [status("new", 1, "queued")], ALL).hasStrangers).toBe(true);
  expect(applyStatusEvents(EMPTY_LIST, [status("old", 40, "done")], ALL).hasStrangers).toBe(false);
});

it("lets a run go that no longer has the status looked for, and wants those that get it", () => {
  const query = { status: "running", text: "" } as const;
  const running = listOf(run("a", { status: "running" }));
  expect(idsOf(applyStatusEvents(running, [status("a", 5, "done")], query).list)).toEqual([]);
  expect(applyStatusEvents(running, [status("b", 40, "running")], query).hasStrangers).toBe(true);
});

it("puts a first page that came again above the pages that were loaded before", () => {
  const loaded = { runs: [run("d"), run("c"), run("b"), run("a")], nextBefore: "a" };
  const merged = mergeFirstPage(loaded, { runs: [run("e"), run("d"), run("c")], nextBefore: "c" });
  expect(idsOf(merged)).toEqual(["e", "d", "c", "b", "a"]);
  expect(merged.nextBefore).toBe("a");
});

it("starts anew when the first page no longer meets what was loaded", () => {
  const merged = mergeFirstPage(listOf(run("a")), { runs: [run("z"), run("y")], nextBefore: "y" });
  expect([idsOf(merged), merged.nextBefore]).toEqual([["z", "y"], "y"]);
});

it("keeps what an event said when an older answer of the API arrives after it", () => {
  const known = run("a", { status: "running", lastSeq: 2 });
  expect(mergeFirstPage(listOf(known), { runs: [run("a")], nextBefore: null }).runs[0]).toBe(known);
});

it("appends the next page without repeating a run", () => {
  const list = appendPage({ runs: [run("c"), run("b")], nextBefore: "b" }, { runs: [run("b"), run("a")], nextBefore: null });
  expect([idsOf(list), list.nextBefore]).toEqual([["c", "b", "a"], null]);
});
