/** What a request may be answered with: the steps of a plan to choose from, the fields of a form. Pure. */

import { objectOf, textOf } from "./payload";
import type { RequestView } from "./run-view";
import { isObject, type Json } from "./wire";

export interface PlannedStep {
  /** What stands for it in the answer. */
  readonly index: number;
  readonly name: string;
  readonly detail: unknown;
}

/** The steps of which a part may be approved: those that the schema allows, described by the preview or by the plan. */
export function readPlannedSteps(request: RequestView, plan: readonly string[]): readonly PlannedStep[] {
  const steps = objectOf(objectOf(request.schema.properties).steps);
  if (request.kind !== "approval" || steps.type !== "array") return [];
  const described = previewList(request.preview) ?? plan;
  const indexes = readIndexes(objectOf(steps.items).enum) ?? described.map((step, at) => indexOf(step) ?? at);
  return indexes.map((index, at) => describeStep(index, findStep(described, index, at, indexes.length)));
}

function readIndexes(allowed: unknown): readonly number[] | null {
  return Array.isArray(allowed) ? allowed.filter((index): index is number => Number.isInteger(index)) : null;
}

function previewList(preview: unknown): readonly unknown[] | null {
  if (Array.isArray(preview)) return preview;
  return isObject(preview) && Array.isArray(preview.steps) ? preview.steps : null;
}

/** By the index that it says itself; else in order, if there are as many; else by place. */
function findStep(described: readonly unknown[], index: number, at: number, count: number): unknown {
  if (described.some((step) => indexOf(step) !== null)) return described.find((step) => indexOf(step) === index);
  return described[described.length === count ? at : index];
}

function indexOf(step: unknown): number | null {
  return isObject(step) && typeof step.index === "number" ? step.index : null;
}

function describeStep(index: number, step: unknown): PlannedStep {
  if (!isObject(step)) return { index, name: textOf(step) || (step === undefined ? `Step ${index}` : String(step)), detail: null };
  const name = textOf(step.name) || textOf(step.title) || textOf(step.tool) || `Step ${index}`;
  return { index, name, detail: step.input ?? null };
}

/** What is left of the preview beside the list of steps. */
export function previewBeside(request: RequestView, hasSteps: boolean): unknown {
  const { preview } = request;
  if (!hasSteps || !previewList(preview)) return preview;
  if (!isObject(preview)) return null;
  const { steps: _, ...rest } = preview;
  return Object.keys(rest).length > 0 ? rest : null;
}

/** The value of an approval. */
export function approvalOf(isApproved: boolean, chosen: readonly number[] | null, comment: string): Json {
  const value: Record<string, Json> = { approved: isApproved };
  if (isApproved && chosen) value.steps = [...chosen];
  if (comment.trim()) value.comment = comment.trim();
  return value;
}
