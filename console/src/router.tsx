/** Two pages and the History API; more would pay for a library. */

import { type AnchorHTMLAttributes, type MouseEvent, type ReactNode, useSyncExternalStore } from "react";

export type Route = { page: "home" } | { page: "run"; runId: string } | { page: "missing" };

const watchers = new Set<() => void>();

export function readRoute(path: string): Route {
  if (path === "/") return { page: "home" };
  const runId = /^\/runs\/([^/]+)\/?$/.exec(path)?.[1];
  return runId ? { page: "run", runId: decode(runId) } : { page: "missing" };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export function navigate(path: string): void {
  history.pushState(null, "", path);
  scrollTo(0, 0);
  for (const watcher of watchers) watcher();
}

export function usePath(): string {
  return useSyncExternalStore(watchPath, () => location.pathname);
}

function watchPath(watcher: () => void): () => void {
  watchers.add(watcher);
  addEventListener("popstate", watcher);
  return () => {
    watchers.delete(watcher);
    removeEventListener("popstate", watcher);
  };
}

type LinkProps = AnchorHTMLAttributes<HTMLAnchorElement> & { href: string; children: ReactNode };

/** An anchor that stays in the page; with a modifier key it is the browser's. */
export function Link({ href, children, ...rest }: LinkProps): ReactNode {
  function follow(event: MouseEvent): void {
    if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    navigate(href);
  }
  return (
    <a href={href} onClick={follow} {...rest}>
      {children}
    </a>
  );
}
