/** Copies a text and says so. Absent where the browser has no clipboard for us (plain http from afar). */

import { type ReactNode, useEffect, useState } from "react";
import { CheckIcon, CopyIcon } from "./icons";

const CONFIRM_MS = 1_500;

export function CopyButton({ text, label }: { text: string; label: string }): ReactNode {
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    if (!isCopied) return;
    const timer = setTimeout(() => setCopied(false), CONFIRM_MS);
    return () => clearTimeout(timer);
  }, [isCopied]);
  if (!navigator.clipboard) return null;
  const copy = (): void => void navigator.clipboard.writeText(text).then(() => setCopied(true));
  return (
    <button type="button" className="button button-icon" onClick={copy} aria-label={label} title={label}>
      {isCopied ? <CheckIcon /> : <CopyIcon />}
      <span className="visually-hidden" role="status">
        {isCopied ? "Copied" : ""}
      </span>
    </button>
  );
}
