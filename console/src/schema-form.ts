/** A runner's JSON Schema as fields of a form, and the form's text back as JSON. Pure. */

import { isObject, type Json } from "./wire";

export type FieldKind = "text" | "number" | "integer" | "boolean" | "choice" | "json";

export interface FormField {
  readonly name: string;
  readonly label: string;
  readonly description: string;
  readonly kind: FieldKind;
  readonly isRequired: boolean;
  readonly choices: readonly string[];
  /** What the field holds at first, as text. */
  readonly initial: string;
}

export type FormText = Readonly<Record<string, string>>;

export class FormProblem extends Error {
  constructor(
    readonly field: string,
    message: string,
  ) {
    super(message);
    this.name = "FormProblem";
  }
}

type Schema = Readonly<Record<string, unknown>>;

export function readFields(schema: Schema): readonly FormField[] {
  const properties = isObject(schema.properties) ? schema.properties : {};
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  return Object.entries(properties).map(([name, value]) => {
    const property = resolve(isObject(value) ? value : {}, schema);
    return readField(name, property, required.has(name));
  });
}

function readField(name: string, property: Schema, isRequired: boolean): FormField {
  const kind = kindOf(property);
  const initial = property.default === undefined || property.default === null ? "" : toText(property.default, kind);
  return {
    name,
    label: typeof property.title === "string" ? property.title : name,
    description: typeof property.description === "string" ? property.description : "",
    kind,
    isRequired,
    choices: Array.isArray(property.enum) ? property.enum.map(String) : [],
    initial: kind === "boolean" && initial === "" ? "false" : initial,
  };
}

/** Follow one reference and look through `X or null`: what pydantic writes for optional and named types. */
function resolve(property: Schema, root: Schema): Schema {
  const { $ref: reference, anyOf, ...own } = property;
  if (typeof reference === "string") {
    const name = reference.replace("#/$defs/", "");
    const target = isObject(root.$defs) ? root.$defs[name] : undefined;
    return { ...(isObject(target) ? target : {}), ...own };
  }
  const options = Array.isArray(anyOf) ? anyOf.filter((option) => isObject(option) && option.type !== "null") : [];
  return options.length === 1 ? { ...(options[0] as Schema), ...own } : property;
}

function kindOf({ type, enum: choices }: Schema): FieldKind {
  if (Array.isArray(choices) && choices.every((choice) => typeof choice === "string")) return "choice";
  if (type === "string") return "text";
  if (type === "number" || type === "integer" || type === "boolean") return type;
  return "json";
}

function toText(value: unknown, kind: FieldKind): string {
  return kind === "json" ? JSON.stringify(value, null, 2) : String(value);
}

/** The input for the runner; an empty field that isn't required is left out. */
export function readInput(fields: readonly FormField[], texts: FormText): Json {
  const input: Record<string, Json> = {};
  for (const field of fields) {
    const text = texts[field.name] ?? field.initial;
    if (text !== "" || (field.isRequired && field.kind === "text")) input[field.name] = readValue(field, text);
    else if (field.isRequired) throw new FormProblem(field.name, `${field.label} is needed.`);
  }
  return input;
}

function readValue({ name, label, kind }: FormField, text: string): Json {
  if (kind === "boolean") return text === "true";
  if (kind === "number" || kind === "integer") return readNumber(name, label, kind, text);
  if (kind !== "json") return text;
  try {
    return JSON.parse(text) as Json;
  } catch {
    throw new FormProblem(name, `${label} is not valid JSON.`);
  }
}

function readNumber(name: string, label: string, kind: FieldKind, text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value)) throw new FormProblem(name, `${label} is not a number.`);
  if (kind === "integer" && !Number.isInteger(value)) throw new FormProblem(name, `${label} must be a whole number.`);
  return value;
}
