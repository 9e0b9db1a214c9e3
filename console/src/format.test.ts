import { expect, it } from "vitest";
import { formatAgo, formatDuration } from "./format";

it.each([
  [-5, "0 ms"],
  [340, "340 ms"],
  [3_290, "3.2 s"],
  [42_900, "42 s"],
  [125_000, "2 min 5 s"],
  [3_600_000 * 3 + 60_000 * 7, "3 h 7 min"],
])("says %i ms as %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

it.each([
  [2_000, "just now"],
  [30_000, "30 s ago"],
  [3_600_000 * 5, "5 h ago"],
  [86_400_000 * 2, "2 d ago"],
])("says an age of %i ms as %s", (ms, text) => {
  expect(formatAgo(ms)).toBe(text);
});
