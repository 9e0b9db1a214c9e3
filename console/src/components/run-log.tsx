/** The log lines of a run; it follows its end unless the reader has scrolled away from there. */

import { memo, type ReactNode, useLayoutEffect, useRef } from "react";
import { formatClock } from "../format";
import type { LogLine } from "../run-view";
import { Tail } from "./tail";

const MAX_LINES = 300;
/** This near to the end counts as at the end. */
const END_PX = 24;

export function RunLog({ lines, dropped }: { lines: readonly LogLine[]; dropped: number }): ReactNode {
  const box = useRef<HTMLOListElement>(null);
  const isAtEnd = useRef(true);
  useLayoutEffect(() => {
    if (isAtEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines]);
  function noteScroll(): void {
    const { scrollHeight = 0, scrollTop = 0, clientHeight = 0 } = box.current ?? {};
    isAtEnd.current = scrollHeight - scrollTop - clientHeight < END_PX;
  }
  return (
    <ol ref={box} className="log" onScroll={noteScroll} tabIndex={0} aria-label="Log lines" data-testid="run-log">
      {dropped > 0 && <li className="muted">{dropped} older lines are not kept in this page.</li>}
      <Tail items={lines} limit={MAX_LINES} noun="lines">
        {(line) => <Line key={line.seq} line={line} />}
      </Tail>
    </ol>
  );
}

const Line = memo(function Line({ line }: { line: LogLine }): ReactNode {
  return (
    <li className={`log-line log-${line.level}`}>
      <time dateTime={line.ts}>{formatClock(line.ts)}</time>
      <span className="log-level">{line.level}</span>
      <span className="log-text">
        {line.text}
        {line.data && <span className="log-data"> {line.data}</span>}
      </span>
    </li>
  );
});
