/** Any JSON value, pretty and coloured; a plain string as what it is. */

import { memo, type ReactNode } from "react";

/** More than this is cut; nobody reads on, and the page stays quick. */
const MAX_CHARS = 100_000;
const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\b\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\b/g;

export const JsonView = memo(function JsonView({ value }: { value: unknown }): ReactNode {
  const whole = typeof value === "string" ? value : (JSON.stringify(value, null, 2) ?? "");
  const text = whole.slice(0, MAX_CHARS);
  return (
    <pre className="json">
      <code>{typeof value === "string" ? text : colour(text)}</code>
      {whole.length > MAX_CHARS && <em>{`\n… ${whole.length - MAX_CHARS} more characters`}</em>}
    </pre>
  );
});

function colour(text: string): ReactNode[] {
  const parts: ReactNode[] = [];
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    const [token, quoted, colon] = match;
    const kind = quoted === undefined ? "json-atom" : colon === undefined ? "json-string" : "json-key";
    const shown = quoted ?? token;
    parts.push(text.slice(end, match.index));
    parts.push(
      <span key={match.index} className={kind}>
        {shown}
      </span>,
    );
    end = match.index + shown.length;
  }
  parts.push(text.slice(end));
  return parts;
}
