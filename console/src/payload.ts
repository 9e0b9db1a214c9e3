/** Reading what payloads hold, whatever that may be. */

import { isObject, type Payload, type RunEvent } from "./wire";

export function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

export function textOrNull(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

export function numberOrNull(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

export function objectOf(value: unknown): Payload {
  return isObject(value) ? value : {};
}

export function stepIdOf(event: RunEvent): string | null {
  const id = event.payload.stepId ?? event.stepId;
  return typeof id === "string" ? id : null;
}

/** The moment so many milliseconds after another, as both travel. */
export function momentAfter(ts: string, waitMs: unknown): string | null {
  const moment = Date.parse(ts) + (numberOrNull(waitMs) ?? Number.NaN);
  return Number.isFinite(moment) && Math.abs(moment) < 8.64e15 ? new Date(moment).toISOString() : null;
}

/** An address that a link may lead to: ours, or the web's; never a script. */
export function readAddress(value: unknown): string | null {
  const text = textOf(value);
  return /^https?:\/\//i.test(text) || /^\/(?![/\\])/.test(text) ? text : null;
}
