/** What is known of a run besides its content: ids, times, tags. */

import type { ReactNode } from "react";
import { runPath } from "../addresses";
import { formatMoment } from "../format";
import { Link } from "../router";
import type { RunView } from "../run-view";
import { isFinal } from "../wire";
import { CopyButton } from "./copy-button";
import { Elapsed } from "./elapsed";

export function RunFacts({ view }: { view: RunView }): ReactNode {
  return (
    <dl className="facts">
      <Fact name="Run">
        <code className="run-id">{view.runId}</code>
        <CopyButton text={view.runId} label="Copy the run’s id" />
      </Fact>
      <Fact name="Runner">{view.runner ?? "–"}</Fact>
      {view.parentId && (
        <Fact name={view.runner === "undo" ? "Undoes" : "Started by"}>
          <Link href={runPath(view.parentId)} className="run-id" data-testid="parent-link">
            {view.parentId}
          </Link>
        </Fact>
      )}
      <Fact name="Created">{view.createdAt ? <Moment ts={view.createdAt} /> : "–"}</Fact>
      <Fact name="Started">{view.startedAt ? <Moment ts={view.startedAt} /> : "–"}</Fact>
      <Fact name="Ended">{view.endedAt ? <Moment ts={view.endedAt} /> : "–"}</Fact>
      <Fact name="Duration">
        <Duration view={view} />
      </Fact>
      {view.attempt > 1 && <Fact name="Attempt">{view.attempt}</Fact>}
      <Fact name="Events">{view.cursor.seq.toLocaleString()}</Fact>
      {view.tags.length > 0 && (
        <Fact name="Tags">
          {view.tags.map((tag) => (
            <span key={tag} className="tag">
              {tag}
            </span>
          ))}
        </Fact>
      )}
      {usageOf(view).map(([name, value]) => (
        <Fact key={name} name={name}>
          {typeof value === "number" ? value.toLocaleString() : value}
        </Fact>
      ))}
    </dl>
  );
}

function Fact({ name, children }: { name: string; children: ReactNode }): ReactNode {
  return (
    <div className="fact">
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Moment({ ts }: { ts: string }): ReactNode {
  return <time dateTime={ts}>{formatMoment(ts)}</time>;
}

function Duration({ view }: { view: RunView }): ReactNode {
  if (!view.startedAt || (isFinal(view.status) && !view.endedAt)) return "–";
  return <Elapsed from={view.startedAt} to={view.endedAt} />;
}

/** Figures and short words of what it has used, named for people: `inputTokens` is "Input tokens". */
function usageOf(view: RunView): [string, number | string][] {
  return Object.entries(view.usage ?? {}).flatMap(([key, value]) => {
    const words = key.replaceAll(/([a-z])([A-Z])/g, "$1 $2").replaceAll("_", " ").toLowerCase();
    const name = words.charAt(0).toUpperCase() + words.slice(1);
    return typeof value === "number" || typeof value === "string" ? [[name, value] as [string, number | string]] : [];
  });
}
