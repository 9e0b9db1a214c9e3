import { describe, expect, it } from "vitest";
import { findField, FormProblem, readFields, readInput } from "./schema-form";

const SCHEMA = {
  type: "object",
  required: ["name", "count", "address"],
  $defs: {
    Format: { enum: ["pdf", "html"], type: "string", title: "Format" },
    Address: {
      type: "object",
      required: ["city"],
      properties: { city: { type: "string", minLength: 2 }, zip: { type: ["string", "null"], default: null } },
    },
    Tree: { type: "object", properties: { child: { $ref: "#/$defs/Tree" } } },
  },
  properties: {
    name: { type: "string", title: "Name", description: "Who it is for" },
    count: { type: "integer", title: "Count", minimum: 1, exclusiveMaximum: 10 },
    ratio: { anyOf: [{ type: "number" }, { type: "null" }], default: null, title: "Ratio" },
    draft: { type: "boolean", default: true },
    format: { $ref: "#/$defs/Format", default: "pdf" },
    level: { enum: [1, 2, null], default: null },
    filters: { type: "object", additionalProperties: true, default: { a: 1 } },
    day: { type: "string", format: "date" },
    at: { type: "string", format: "date-time" },
    text: { type: "string", maxLength: 5000 },
    address: { $ref: "#/$defs/Address" },
    second: { anyOf: [{ $ref: "#/$defs/Address" }, { type: "null" }], default: null },
    tags: { type: "array", items: { type: "string" }, default: ["a"], maxItems: 3 },
    numbers: { type: "array", items: { type: "integer", minimum: 0 } },
    either: { anyOf: [{ const: "x" }, { const: "y" }] },
    people: { type: "array", items: { $ref: "#/$defs/Address" } },
  },
};

const fields = readFields(SCHEMA);
const NEEDED = { name: "x", count: "3", "address.city": "Bonn" };

function problemOf(texts: Record<string, string>): [string, string] | null {
  try {
    readInput(fields, texts);
    return null;
  } catch (error) {
    return error instanceof FormProblem ? [error.field, error.message] : ["another error", String(error)];
  }
}

describe("fields", () => {
  it("have a kind for each property, through references, optional types and nested models", () => {
    expect(fields.map(({ name, kind }) => `${name}: ${kind}`)).toEqual([
      ...["name: text", "count: integer", "ratio: number", "draft: boolean", "format: choice", "level: choice"],
      ...["filters: json", "day: date", "at: datetime", "text: lines", "address: group", "second: group"],
      ...["tags: list", "numbers: list", "either: choice", "people: json"],
    ]);
    const address = fields.find(({ name }) => name === "address");
    expect(address?.fields.map(({ path, isRequired, isNullable }) => [path, isRequired, isNullable])).toEqual([
      ["address.city", true, false],
      ["address.zip", false, true],
    ]);
  });

  it("keep labels, descriptions, choices and defaults", () => {
    expect(fields.find(({ name }) => name === "name")).toMatchObject({ label: "Name", description: "Who it is for" });
    expect(fields.find(({ name }) => name === "format")).toMatchObject({ choices: ["pdf", "html"], label: "Format", initial: "pdf" });
    expect(fields.find(({ name }) => name === "level")).toMatchObject({ choices: [1, 2], isNullable: true, initial: "" });
  });

  it("end where a model refers to itself", () => {
    const tree = readFields({ $ref: "#/$defs/Tree", $defs: SCHEMA.$defs });
    expect(JSON.stringify(tree)).toContain('"kind":"json"');
  });

  it("are one without a name where the schema is no object", () => {
    const answer = readFields({ type: "string", minLength: 1 });
    expect(answer).toMatchObject([{ path: "", kind: "text", label: "Answer", isRequired: true }]);
    expect(readInput(answer, { "": "yes" })).toBe("yes");
    expect(() => readInput(answer, {})).toThrow("Answer is needed.");
    expect(readInput(readFields({ type: "integer", title: "How many?" }), { "": "3" })).toBe(3);
  });

  it("come out of any schema", () => {
    for (const schema of [{}, { properties: 3 }, { type: "object" }, { properties: { a: null, b: { $ref: "#/none" } } }]) {
      expect(Array.isArray(readFields(schema))).toBe(true);
    }
  });
});

describe("input", () => {
  it("turns texts into values and leaves out what is empty and not required", () => {
    expect(readInput(fields, { ...NEEDED, draft: "false", level: "2", day: "2026-01-02" })).toEqual({
      ...{ name: "x", count: 3, draft: false, format: "pdf", level: 2, filters: { a: 1 }, day: "2026-01-02" },
      ...{ address: { city: "Bonn" }, tags: ["a"] },
    });
  });

  it("reads lists, groups that were added, and moments in this place's time", () => {
    const at = "2026-01-02T03:04";
    const value = readInput(fields, {
      ...NEEDED,
      ...{ tags: '["b","","c"]', numbers: '["1","2"]', second: "true", "second.city": "Köln", at },
    });
    expect(value).toMatchObject({ tags: ["b", "c"], numbers: [1, 2], second: { city: "Köln" }, at: new Date(at).toISOString() });
  });

  it("says null where a default was taken away, and the empty list where the items were", () => {
    const nullable = readFields({ properties: { a: { type: ["integer", "null"], default: 3 }, b: { type: ["string", "null"] } }, required: ["b"] });
    expect(readInput(nullable, { a: "" })).toEqual({ a: null, b: null });
    expect(readInput(fields, { ...NEEDED, tags: "[]" })).toMatchObject({ tags: [] });
  });

  it("keeps an empty text that may be empty", () => {
    expect(readInput(fields, { ...NEEDED, name: "" })).toMatchObject({ name: "" });
  });

  it.each([
    [{ ...NEEDED, count: "" }, "count", "Count is needed."],
    [{ ...NEEDED, count: "1.5" }, "count", "Count must be a whole number."],
    [{ ...NEEDED, count: "10" }, "count", "Count must be at least 1 and less than 10."],
    [{ ...NEEDED, ratio: "much" }, "ratio", "Ratio is not a number."],
    [{ ...NEEDED, filters: "{" }, "filters", "filters is not valid JSON."],
    [{ ...NEEDED, "address.city": "B" }, "address.city", "city needs at least 2 characters."],
    [{ ...NEEDED, tags: '["1","2","3","4"]' }, "tags", "tags takes at most 3."],
    [{ ...NEEDED, numbers: '["-1"]' }, "numbers", "numbers must be at least 0."],
  ])("%j is refused at %s", (texts, field, message) => {
    expect(problemOf(texts)).toEqual([field, message]);
  });
});

it("a problem that the server names is shown at its field, or at the nearest one around it", () => {
  const places = ["input.address.city", "input.tags[0]", "value.people.0.city", "address.street", "input", "input.none", null];
  expect(places.map((place) => findField(fields, place))).toEqual([
    ...["address.city", "tags", "people", "address", null, null, null],
  ]);
  expect(findField(readFields({ type: "integer" }), "value")).toBe("");
});
