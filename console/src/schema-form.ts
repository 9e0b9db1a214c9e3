/**
 * A JSON Schema as fields of a form, and the form's texts back as JSON. Pure.
 *
 * A form's content is one text per field, by the field's path (`address.city`); a list keeps its items as a JSON array
 * of texts, an optional group says with "true" that it is there. What no control fits is written as JSON. The server
 * checks the input; what is checked here is only what would be lost or is quick to say.
 */

import { FormProblem, readChecked } from "./form-checks";
import type { FieldKind, FormField } from "./form-fields";
import { isObject, type Json } from "./wire";

export { FormProblem };
export type { FormField };

export type FormText = Readonly<Record<string, string>>;
type Schema = Readonly<Record<string, unknown>>;

/** Groups within groups; what lies deeper, or refers to itself, is JSON. */
const MAX_DEPTH = 4;
/** A text that may be longer than this gets several lines. */
const LINE_CHARS = 200;

/** The fields for a schema: those of its properties, or one for a value that isn't an object. */
export function readFields(schema: Schema): readonly FormField[] {
  const root = resolve(schema, schema);
  if (isObject(root.properties)) return readProperties(root, schema, "", 0);
  if (root.type === "object" && !isObject(root.additionalProperties)) return [];
  return [readField("", { title: "Answer", ...schema }, schema, true, 0)];
}

function readProperties(group: Schema, root: Schema, base: string, depth: number): readonly FormField[] {
  const properties = isObject(group.properties) ? group.properties : {};
  const required = new Set(Array.isArray(group.required) ? group.required : []);
  return Object.entries(properties).map(([name, value]) => {
    const path = base ? `${base}.${name}` : name;
    return readField(path, isObject(value) ? value : {}, root, required.has(name), depth);
  });
}

function readField(path: string, own: Schema, root: Schema, isRequired: boolean, depth: number): FormField {
  const schema = resolve(own, root);
  const name = path.slice(path.lastIndexOf(".") + 1);
  const choices = readChoices(schema);
  const kind = kindOf(schema, choices, root, depth);
  const isNullable = canBeNull(own) || canBeNull(schema);
  return {
    ...{ path, name, kind, isRequired, isNullable, choices },
    label: textIn(own, "title") || textIn(schema, "title") || name,
    description: textIn(schema, "description"),
    initial: initialOf(schema, kind, isRequired && !isNullable),
    minimum: numberIn(schema, "minimum") ?? numberIn(schema, "exclusiveMinimum"),
    maximum: numberIn(schema, "maximum") ?? numberIn(schema, "exclusiveMaximum"),
    isAboveMinimum: numberIn(schema, "exclusiveMinimum") !== null,
    isBelowMaximum: numberIn(schema, "exclusiveMaximum") !== null,
    minLength: numberIn(schema, kind === "list" ? "minItems" : "minLength") ?? 0,
    maxLength: numberIn(schema, kind === "list" ? "maxItems" : "maxLength"),
    pattern: textIn(schema, "pattern") || null,
    format: textIn(schema, "format"),
    fields: kind === "group" ? readProperties(schema, root, path, depth + 1) : [],
    item: kind === "list" ? readField(path, itemOf(schema), root, true, depth + 1) : null,
  };
}

/** Follow references and look through `X or null`: what is written for optional and named types. */
function resolve(schema: Schema, root: Schema, turns = 0): Schema {
  const { $ref: reference, anyOf, oneOf, allOf, ...own } = schema;
  if (turns > 8) return own;
  if (typeof reference === "string") {
    const target = reference.split("/").slice(1).reduce<unknown>((at, key) => (isObject(at) ? at[key] : undefined), root);
    return resolve({ ...(isObject(target) ? target : {}), ...own }, root, turns + 1);
  }
  const options = [anyOf, oneOf, allOf].find(Array.isArray)?.filter((option) => isObject(option) && option.type !== "null");
  if (!options) return schema;
  if (options.length === 1) return resolve({ ...(options[0] as Schema), ...own }, root, turns + 1);
  const resolved = options.map((option) => resolve(option as Schema, root, turns + 1));
  const all = resolved.map(readChoices);
  return all.every((choices) => choices.length > 0) ? { ...own, enum: all.flat() } : schema;
}

function canBeNull({ type, enum: choices, anyOf, oneOf }: Schema): boolean {
  if (Array.isArray(type) && type.includes("null")) return true;
  if (Array.isArray(choices) && choices.includes(null)) return true;
  return [anyOf, oneOf].some((options) => Array.isArray(options) && options.some((one) => isObject(one) && one.type === "null"));
}

function readChoices(schema: Schema): readonly Json[] {
  if ("const" in schema) return [schema.const as Json];
  const choices = Array.isArray(schema.enum) ? (schema.enum as Json[]).filter((choice) => choice !== null) : [];
  return choices.every((choice) => typeof choice !== "object") ? choices : [];
}

function kindOf(schema: Schema, choices: readonly Json[], root: Schema, depth: number): FieldKind {
  const type = Array.isArray(schema.type) ? schema.type.filter((each) => each !== "null") : [schema.type];
  const word: unknown = type.length === 1 ? type[0] : undefined;
  if (choices.length > 0) return "choice";
  if (word === "string") return kindOfText(schema);
  if (word === "number" || word === "integer" || word === "boolean") return word;
  if (depth >= MAX_DEPTH) return "json";
  if (isObject(schema.properties)) return "group";
  return word === "array" && isScalar(itemOf(schema), root) ? "list" : "json";
}

function kindOfText({ format, maxLength }: Schema): FieldKind {
  if (format === "date" || format === "time") return format;
  if (format === "date-time") return "datetime";
  return format === "textarea" || (typeof maxLength === "number" && maxLength > LINE_CHARS) ? "lines" : "text";
}

function itemOf(schema: Schema): Schema {
  return isObject(schema.items) ? schema.items : {};
}

function isScalar(item: Schema, root: Schema): boolean {
  const schema = resolve(item, root);
  const kind = kindOf(schema, readChoices(schema), root, MAX_DEPTH);
  return kind !== "json" && kind !== "group";
}

function initialOf(schema: Schema, kind: FieldKind, isNeeded: boolean): string {
  const value = schema.default as Json | undefined;
  if (kind === "group") return isNeeded || (value !== undefined && value !== null) ? "true" : "";
  if (kind === "boolean" && isNeeded && value === undefined) return "false";
  return value === undefined || value === null ? "" : toText(value, kind);
}

/** A value as the text that its field holds. */
export function toText(value: Json, kind: FieldKind): string {
  if (kind === "list") return JSON.stringify(Array.isArray(value) ? value.map(String) : []);
  if (kind === "json") return JSON.stringify(value, null, 2);
  if (kind === "datetime") return toLocalTime(String(value));
  return String(value);
}

/** A moment as `datetime-local` takes it. */
function toLocalTime(ts: string): string {
  const date = new Date(ts);
  if (Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}

/** The texts of a list's items. */
export function readItems(text: string): readonly string[] {
  try {
    const items: unknown = text ? JSON.parse(text) : [];
    return Array.isArray(items) ? items.map(String) : [];
  } catch {
    return [];
  }
}

/** The value of a form: an object of its fields, or what its one nameless field says. */
export function readInput(fields: readonly FormField[], texts: FormText): Json {
  const [only] = fields;
  if (only?.path === "") return readOptional(only, texts) ?? null;
  return readGroup(fields, texts);
}

function readGroup(fields: readonly FormField[], texts: FormText): Json {
  const input: Record<string, Json> = {};
  for (const field of fields) {
    const value = readOptional(field, texts);
    if (value !== undefined) input[field.name] = value;
  }
  return input;
}

/** What a field says; nothing if it is empty and need not be there. */
function readOptional(field: FormField, texts: FormText): Json | undefined {
  const text = texts[field.path] ?? field.initial;
  if (field.kind === "group") return text === "true" ? readGroup(field.fields, texts) : readAbsent(field);
  if (field.kind === "list") return readList(field, readItems(text));
  if (text !== "") return readChecked(field, text);
  const mayBeEmpty = (field.kind === "text" || field.kind === "lines") && field.minLength === 0 && field.format === "";
  return field.isRequired && !field.isNullable && mayBeEmpty ? "" : readAbsent(field);
}

function readAbsent(field: FormField): Json | undefined {
  if (field.isNullable && (field.isRequired || field.initial !== "")) return null;
  if (!field.isRequired) return undefined;
  throw new FormProblem(field.path, `${field.label} is needed.`);
}

function readList(field: FormField, items: readonly string[]): Json | undefined {
  const { item, minLength, maxLength, label, path } = field;
  const values = items.filter((text) => text !== "").map((text) => readChecked({ ...(item ?? field), path, label }, text));
  if (values.length === 0 && !field.isRequired && field.initial === "") return undefined;
  if (values.length < minLength) throw new FormProblem(path, `${label} needs at least ${minLength}.`);
  if (maxLength !== null && values.length > maxLength) throw new FormProblem(path, `${label} takes at most ${maxLength}.`);
  return values;
}

/** The field that a problem's place means: itself, or the nearest one around it. */
export function findField(fields: readonly FormField[], place: string | null): string | null {
  if (place === null) return null;
  const known = new Set(pathsOf(fields));
  let path = place.replace(/^\$?\.?(?:input|value|answer)(?=$|[.[])/, "").replaceAll(/\[(\w+)\]/g, ".$1").replace(/^[.$]+/, "");
  while (path !== "" && !known.has(path)) path = path.slice(0, Math.max(0, path.lastIndexOf(".")));
  return known.has(path) ? path : null;
}

function pathsOf(fields: readonly FormField[]): readonly string[] {
  return fields.flatMap((field) => [field.path, ...pathsOf(field.fields)]);
}

function textIn(schema: Schema, key: string): string {
  const value = schema[key];
  return typeof value === "string" ? value : "";
}

function numberIn(schema: Schema, key: string): number | null {
  const value = schema[key];
  return typeof value === "number" ? value : null;
}
