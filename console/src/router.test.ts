import { expect, it } from "vitest";
import { readRoute } from "./router";

it.each([
  ["/", { page: "home" }],
  ["/runs/abc", { page: "run", runId: "abc" }],
  ["/runs/a%20b/", { page: "run", runId: "a b" }],
  ["/runs/%E0%A4%A", { page: "run", runId: "%E0%A4%A" }],
  ["/elsewhere", { page: "missing" }],
])("reads %s", (path, route) => {
  expect(readRoute(path)).toEqual(route);
});
