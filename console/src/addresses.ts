/** Where things are: the gateway's WebSockets, the console's pages. */

export function runSocketAddress(runId: string, cursor: string): string {
  return `${socketBase()}/ws/runs/${encodeURIComponent(runId)}?after=${cursor}`;
}

export function statusSocketAddress(): string {
  return `${socketBase()}/ws/runs`;
}

export function runPath(runId: string): string {
  return `/runs/${encodeURIComponent(runId)}`;
}

function socketBase(): string {
  return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}`;
}
