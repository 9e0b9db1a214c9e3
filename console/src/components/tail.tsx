/** The last of many items; the earlier ones come when asked for, so that a long run stays quick to draw. */

import { type ReactNode, useState } from "react";

interface TailProps<T> {
  readonly items: readonly T[];
  readonly limit: number;
  readonly noun: string;
  readonly children: (item: T) => ReactNode;
}

export function Tail<T>({ items, limit, noun, children }: TailProps<T>): ReactNode {
  const [isWhole, setWhole] = useState(false);
  const hidden = isWhole ? 0 : Math.max(0, items.length - limit);
  return (
    <>
      {hidden > 0 && (
        <li className="tail-more">
          <button type="button" className="button button-quiet" onClick={() => setWhole(true)}>
            Show {hidden} earlier {noun}
          </button>
        </li>
      )}
      {items.slice(hidden).map(children)}
    </>
  );
}
