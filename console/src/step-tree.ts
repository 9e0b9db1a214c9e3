/** Steps in the order in which they are read: each below the one that it is part of. Pure. */

import type { StepView } from "./run-view";

export interface NestedStep {
  readonly step: StepView;
  readonly depth: number;
}

/** Deeper ones are shown at this depth. */
export const MAX_DEPTH = 4;

export function nestSteps(steps: readonly StepView[]): readonly NestedStep[] {
  if (steps.every((step) => step.parentId === null)) return steps.map((step) => ({ step, depth: 0 }));
  const known = new Set(steps.map((step) => step.id));
  const children = new Map<string | null, StepView[]>();
  for (const step of steps) {
    const parent = step.parentId !== null && known.has(step.parentId) && step.parentId !== step.id ? step.parentId : null;
    children.set(parent, [...(children.get(parent) ?? []), step]);
  }
  const nested: NestedStep[] = [];
  const below = (parent: string | null, depth: number): void => {
    for (const step of children.get(parent) ?? []) {
      nested.push({ step, depth: Math.min(depth, MAX_DEPTH) });
      below(step.id, depth + 1);
    }
  };
  below(null, 0);
  return nested;
}
