/** What a form says of a field's text before the server does, and the text as the value that it means. Pure. */

import type { FormField } from "./form-fields";
import type { Json } from "./wire";

export class FormProblem extends Error {
  constructor(
    readonly field: string,
    message: string,
  ) {
    super(message);
    this.name = "FormProblem";
  }
}

/** The value that a text stands for. Raises a `FormProblem` if it can't. */
export function readChecked(field: FormField, text: string): Json {
  switch (field.kind) {
    case "boolean":
      return text === "true";
    case "number":
    case "integer":
      return readNumber(field, text);
    case "choice":
      return field.choices.find((choice) => String(choice) === text) ?? text;
    case "datetime":
      return readMoment(field, text);
    case "json":
      return readJson(field, text);
    default:
      return readText(field, text);
  }
}

function readNumber(field: FormField, text: string): number {
  const { label, minimum, maximum } = field;
  const value = text.trim() === "" ? Number.NaN : Number(text);
  if (!Number.isFinite(value)) throw new FormProblem(field.path, `${label} is not a number.`);
  if (field.kind === "integer" && !Number.isInteger(value)) {
    throw new FormProblem(field.path, `${label} must be a whole number.`);
  }
  const isLow = minimum !== null && (value < minimum || (field.isAboveMinimum && value === minimum));
  const isHigh = maximum !== null && (value > maximum || (field.isBelowMaximum && value === maximum));
  if (isLow || isHigh) throw new FormProblem(field.path, `${label} must be ${describeRange(field)}.`);
  return value;
}

/** "from 1 to 10", "at least 1", "less than 5"; empty without bounds. */
export function describeRange({ minimum, maximum, isAboveMinimum, isBelowMaximum }: FormField): string {
  const low = minimum === null ? "" : `${isAboveMinimum ? "more than" : "at least"} ${minimum}`;
  const high = maximum === null ? "" : `${isBelowMaximum ? "less than" : "at most"} ${maximum}`;
  if (low && high && !isAboveMinimum && !isBelowMaximum) return `from ${minimum} to ${maximum}`;
  return [low, high].filter(Boolean).join(" and ");
}

function readText({ path, label, minLength, maxLength, pattern }: FormField, text: string): string {
  if (text.length < minLength) throw new FormProblem(path, `${label} needs at least ${minLength} characters.`);
  if (maxLength !== null && [...text].length > maxLength) {
    throw new FormProblem(path, `${label} takes at most ${maxLength} characters.`);
  }
  if (pattern !== null && !matches(pattern, text)) throw new FormProblem(path, `${label} must match ${pattern}`);
  return text;
}

/** A pattern that this browser can't read is the server's to check. */
function matches(pattern: string, text: string): boolean {
  try {
    return new RegExp(pattern, "u").test(text);
  } catch {
    return true;
  }
}

function readMoment({ path, label }: FormField, text: string): string {
  const date = new Date(text);
  if (Number.isNaN(date.getTime())) throw new FormProblem(path, `${label} is not a date and time.`);
  return date.toISOString();
}

function readJson({ path, label }: FormField, text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    throw new FormProblem(path, `${label} is not valid JSON.`);
  }
}
