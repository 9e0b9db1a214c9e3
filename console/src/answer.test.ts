import { expect, it } from "vitest";
import { approvalOf, previewBeside, readPlannedSteps } from "./answer";
import type { RequestView } from "./run-view";

function approval(preview: unknown, indexes: readonly number[] | null): RequestView {
  const items = indexes === null ? { type: "integer" } : { type: "integer", enum: indexes };
  const schema = { type: "object", properties: { approved: { type: "boolean" }, steps: { type: "array", items } } };
  const blank = { state: "open", answer: null, answeredBy: null, answeredAt: null } as const;
  return { id: "request-1", kind: "approval", prompt: "Go?", schema, preview, askedAt: "", expiresAt: null, ...blank };
}

function namesOf(request: RequestView, plan: readonly string[] = []): [number, string][] {
  return readPlannedSteps(request, plan).map(({ index, name }) => [index, name]);
}

it("offers the steps that the schema allows, as the preview describes them", () => {
  const preview = [{ index: 1, name: "wait" }, { index: 2, name: "post", input: { text: "x" } }, { index: 3, name: "mail" }];
  expect(namesOf(approval(preview, [1, 2, 3]))).toEqual([[1, "wait"], [2, "post"], [3, "mail"]]);
  expect(namesOf(approval(preview, [3]))).toEqual([[3, "mail"]]);
  expect(readPlannedSteps(approval(preview, [2]), [])).toMatchObject([{ detail: { text: "x" } }]);
  expect(namesOf(approval(["a", "b"], [1, 2]))).toEqual([[1, "a"], [2, "b"]]);
  expect(namesOf(approval({ steps: ["a", "b", "c"], text: "x" }, [0, 2]))).toEqual([[0, "a"], [2, "c"]]);
});

it("takes the names from the plan where the preview has none, and makes up the rest", () => {
  expect(namesOf(approval("a text", [0, 1]), ["fetch", "send"])).toEqual([[0, "fetch"], [1, "send"]]);
  expect(namesOf(approval(null, [4]))).toEqual([[4, "Step 4"]]);
  expect(namesOf(approval(["a", "b"], null))).toEqual([[0, "a"], [1, "b"]]);
});

it("offers no steps where none can be chosen", () => {
  expect(namesOf({ ...approval(["a"], [0]), schema: {} })).toEqual([]);
  expect(namesOf({ ...approval(["a"], [0]), kind: "input" })).toEqual([]);
});

it("shows of the preview what the steps don't say", () => {
  expect(previewBeside(approval(["a"], [0]), true)).toBeNull();
  expect(previewBeside(approval({ steps: ["a"], text: "x" }, [0]), true)).toEqual({ text: "x" });
  expect(previewBeside(approval("text", [0]), true)).toBe("text");
  expect(previewBeside(approval(["a"], [0]), false)).toEqual(["a"]);
});

it("says which steps are approved and why, and of a rejection only why", () => {
  expect(approvalOf(true, [0, 2], "")).toEqual({ approved: true, steps: [0, 2] });
  expect(approvalOf(false, [0, 2], " no ")).toEqual({ approved: false, comment: "no" });
  expect(approvalOf(true, null, "")).toEqual({ approved: true });
});
