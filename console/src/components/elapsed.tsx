/** Durations and ages that tick while there is something to tick for. */

import type { ReactNode } from "react";
import { useServerTime } from "../clock";
import { formatAgo, formatDuration, formatMoment } from "../format";

/** Tenths tick while they are shown, seconds after that. */
const TENTHS_UNTIL_MS = 10_000;

export function Elapsed({ from, to }: { from: string | null; to: string | null }): ReactNode {
  const begin = from === null ? Number.NaN : Date.parse(from);
  const end = to === null ? Number.NaN : Date.parse(to);
  if (Number.isNaN(begin)) return null;
  if (!Number.isNaN(end)) return <span className="elapsed">{formatDuration(end - begin)}</span>;
  return <Ticking begin={begin} />;
}

function Ticking({ begin }: { begin: number }): ReactNode {
  const tenths = useServerTime(100) - begin;
  const shown = tenths < TENTHS_UNTIL_MS ? Math.floor(Math.max(0, tenths) / 100) * 100 : tenths;
  // Below a second the last digits would only flicker: "0.3 s" until the duration is known.
  const text = shown < 1_000 ? `${(shown / 1_000).toFixed(1)} s` : formatDuration(shown);
  return <span className="elapsed">{text}</span>;
}

/** How long it is until then; nothing once it is past. */
export function Countdown({ to, before = "" }: { to: string; before?: string }): ReactNode {
  const left = Date.parse(to) - useServerTime(500);
  if (Number.isNaN(left) || left <= 0) return null;
  // Whole seconds, rounded up: it says 1 s until it is over.
  const text = formatDuration(Math.ceil(left / 1_000) * 1_000).replace(".0 s", " s");
  return (
    <span className="elapsed" title={formatMoment(to)}>
      {before}
      {text}
    </span>
  );
}

export function Ago({ ts }: { ts: string }): ReactNode {
  const now = useServerTime(10_000);
  return (
    <time dateTime={ts} title={formatMoment(ts)}>
      {formatAgo(now - Date.parse(ts))}
    </time>
  );
}
