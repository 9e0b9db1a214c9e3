/** How a run stands, and how the connection to it stands. */

import type { ReactNode } from "react";
import type { ConnectionState } from "../reconnecting-socket";
import { formatWord } from "../format";
import type { RunStatus } from "../wire";

/** Which colour tells of a status; the word stands beside it always. */
const TONES: Readonly<Record<RunStatus, string>> = {
  queued: "quiet",
  delayed: "quiet",
  running: "live",
  retrying: "warn",
  awaiting_approval: "warn",
  awaiting_input: "warn",
  canceling: "warn",
  done: "good",
  failed: "bad",
  canceled: "quiet",
  timed_out: "bad",
};

/** Statuses in which a run goes on only when somebody answers it. */
const WAITING: ReadonlySet<string> = new Set(["awaiting_approval", "awaiting_input"]);

export function isWaitingForPeople(status: string | null): boolean {
  return status !== null && WAITING.has(status);
}

const MOVING: ReadonlySet<RunStatus> = new Set(["running", "retrying", "canceling"]);

export function StatusBadge({ status }: { status: RunStatus | null }): ReactNode {
  const tone = status ? TONES[status] : "quiet";
  const moving = status && MOVING.has(status) ? "is-moving" : "";
  return (
    <span className={`badge tone-${tone} ${moving}`} data-status={status ?? ""}>
      <span className="badge-dot" aria-hidden="true" />
      <span data-testid="run-status">{status ? formatWord(status) : "loading"}</span>
    </span>
  );
}

const CONNECTION_HINTS: Readonly<Record<ConnectionState, string>> = {
  connecting: "Connecting to the gateway",
  live: "Every change is shown as it happens",
  reconnecting: "The connection was lost; it comes back by itself and nothing is missed",
  finished: "The run has ended: nothing more will come",
  refused: "The gateway refused the connection",
};

export function ConnectionBadge({ state }: { state: ConnectionState }): ReactNode {
  return (
    <span className={`connection connection-${state}`} role="status" title={CONNECTION_HINTS[state]}>
      <span className="connection-dot" aria-hidden="true" />
      <span className="visually-hidden">Connection: </span>
      <span data-testid="connection-state">{state}</span>
    </span>
  );
}
