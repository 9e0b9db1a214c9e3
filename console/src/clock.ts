/**
 * The time, as the server has it, ticking only while somebody looks.
 *
 * Durations that still grow are measured against the server's clock, learned from the frames: a browser whose clock is
 * wrong would else show nonsense.
 */

import { useEffect, useState } from "react";

const MAX_TRUSTED_SKEW_MS = 1_500;

let offsetMs = 0;

/** A frame says what time it is over there. A small difference is the way here, not a wrong clock. */
export function learnServerTime(ts: string): void {
  const difference = Date.parse(ts) - Date.now();
  if (Number.isNaN(difference)) return;
  offsetMs = Math.abs(difference) > MAX_TRUSTED_SKEW_MS ? difference : 0;
}

export function serverNow(): number {
  return Date.now() + offsetMs;
}

/** The server's time, renewed every `everyMs`; without it the time of the last render. */
export function useServerTime(everyMs: number | null): number {
  const [, renew] = useState(0);
  useEffect(() => {
    if (everyMs === null) return;
    const timer = setInterval(() => renew((count) => count + 1), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return serverNow();
}
