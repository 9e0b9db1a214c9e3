/**
 * The list of runs, merged from pages of the API and live status events. Pure.
 *
 * An event changes a run only if it is newer than what the API said of it (`lastSeq`). A run that the list doesn't
 * hold is the API's to tell: the caller loads the first page again.
 */

import type { RunPage, RunQuery } from "./api";
import { isFinal, isRunStatus, readError, type Run, type RunEvent } from "./wire";

export interface RunList {
  readonly runs: readonly Run[];
  readonly nextBefore: string | null;
}

export const EMPTY_LIST: RunList = { runs: [], nextBefore: null };

/** The first page came again: it replaces the top; older pages that were loaded stay below it. */
export function mergeFirstPage(list: RunList, page: RunPage): RunList {
  const oldest = page.runs.at(-1);
  const known = new Map(list.runs.map((run) => [run.runId, run]));
  const top = page.runs.map((run) => newer(known.get(run.runId), run));
  if (!oldest || page.nextBefore === null) return { runs: top, nextBefore: page.nextBefore };
  const kept = list.runs.findIndex((run) => run.runId === oldest.runId);
  if (kept < 0 || kept === list.runs.length - 1) return { runs: top, nextBefore: page.nextBefore };
  return { runs: [...top, ...list.runs.slice(kept + 1)], nextBefore: list.nextBefore };
}

export function appendPage(list: RunList, page: RunPage): RunList {
  const known = new Set(list.runs.map((run) => run.runId));
  return { runs: [...list.runs, ...page.runs.filter((run) => !known.has(run.runId))], nextBefore: page.nextBefore };
}

export interface Merged {
  readonly list: RunList;
  /** Whether an event told of a run that the list lacks. */
  readonly hasStrangers: boolean;
}

export function applyStatusEvents(list: RunList, events: readonly RunEvent[], query: RunQuery): Merged {
  const places = new Map(list.runs.map((run, place) => [run.runId, place]));
  const runs = [...list.runs];
  let hasStrangers = false;
  for (const event of events) {
    const place = places.get(event.runId);
    const run = place === undefined ? undefined : runs[place];
    if (place === undefined || !run) hasStrangers ||= isWanted(event, query);
    else runs[place] = applyStatusEvent(run, event);
  }
  const shown = query.status ? runs.filter((run) => run.status === query.status) : runs;
  return { list: { ...list, runs: shown }, hasStrangers };
}

/** A run's first events tell that it is new; later ones of a run that isn't listed are of no interest. */
function isWanted(event: RunEvent, query: RunQuery): boolean {
  return query.status === "" ? event.seq <= 2 : event.payload.status === query.status;
}

function applyStatusEvent(run: Run, event: RunEvent): Run {
  const { status, error, output } = event.payload;
  if (event.seq <= run.lastSeq || !isRunStatus(status)) return run;
  return {
    ...run,
    status,
    lastSeq: event.seq,
    attempt: Math.max(run.attempt, event.attempt),
    error: error === undefined ? run.error : readError(error),
    output: status === "done" ? ((output ?? null) as Run["output"]) : run.output,
    startedAt: status === "running" ? (run.startedAt ?? event.ts) : run.startedAt,
    endedAt: isFinal(status) ? event.ts : run.endedAt,
  };
}

function newer(known: Run | undefined, loaded: Run): Run {
  return known && known.lastSeq > loaded.lastSeq ? known : loaded;
}
