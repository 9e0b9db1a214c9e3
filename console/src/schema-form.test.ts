import { expect, it } from "vitest";
import { FormProblem, readFields, readInput } from "./schema-form";

const SCHEMA = {
  type: "object",
  required: ["name", "count"],
  $defs: { Format: { enum: ["pdf", "html"], type: "string", title: "Format" } },
  properties: {
    name: { type: "string", title: "Name" },
    count: { type: "integer", title: "Count" },
    ratio: { anyOf: [{ type: "number" }, { type: "null" }], default: null, title: "Ratio" },
    draft: { type: "boolean", default: true },
    format: { $ref: "#/$defs/Format", default: "pdf" },
    filters: { type: "object", default: { a: 1 } },
  },
};

const fields = readFields(SCHEMA);

function problemOf(texts: Record<string, string>): string | null {
  try {
    readInput(fields, texts);
    return null;
  } catch (error) {
    return error instanceof FormProblem ? error.field : "another error";
  }
}

it("finds a kind for each property, through references and optional types", () => {
  const kinds = fields.map(({ name, kind }) => [name, kind]);
  expect(kinds).toEqual([
    ["name", "text"],
    ["count", "integer"],
    ["ratio", "number"],
    ["draft", "boolean"],
    ["format", "choice"],
    ["filters", "json"],
  ]);
  expect(fields.find(({ name }) => name === "format")).toMatchObject({ choices: ["pdf", "html"], label: "Format" });
});

it("turns texts into values and leaves out what is empty and not required", () => {
  expect(readInput(fields, { name: "x", count: "3", draft: "false" })).toEqual({
    ...{ name: "x", count: 3, draft: false, format: "pdf", filters: { a: 1 } },
  });
});

it("names the field whose text doesn't fit", () => {
  expect(problemOf({ name: "x", count: "" })).toBe("count");
  expect(problemOf({ name: "x", count: "1.5" })).toBe("count");
  expect(problemOf({ name: "x", count: "1", ratio: "much" })).toBe("ratio");
  expect(problemOf({ name: "x", count: "1", filters: "{" })).toBe("filters");
});
