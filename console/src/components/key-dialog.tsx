/** Asks for the API key when the server wants one. */

import { type FormEvent, type ReactNode, useEffect, useRef, useSyncExternalStore } from "react";
import { answerKey, isKeyAsked, readKey, watchKeyQuestion } from "../api-key";

export function KeyDialog(): ReactNode {
  const isAsked = useSyncExternalStore(watchKeyQuestion, isKeyAsked);
  return isAsked ? <KeyQuestion /> : null;
}

function KeyQuestion(): ReactNode {
  const dialog = useRef<HTMLDialogElement>(null);
  const wasRefused = readKey() !== null;
  useEffect(() => dialog.current?.showModal(), []);
  function submit(event: FormEvent<HTMLFormElement>): void {
    event.preventDefault();
    const key = new FormData(event.currentTarget).get("key");
    if (typeof key === "string" && key.trim()) answerKey(key.trim());
  }
  return (
    <dialog ref={dialog} className="dialog" aria-labelledby="key-title" onCancel={(event) => event.preventDefault()}>
      <form onSubmit={submit} className="stack">
        <h2 id="key-title">API key</h2>
        <p className="muted" role={wasRefused ? "alert" : undefined}>
          {wasRefused ? "The server refused this key. Try another one." : "This server asks for a key."} It is kept in this
          tab only.
        </p>
        <input
          className="input"
          name="key"
          type="password"
          aria-label="API key"
          autoComplete="off"
          data-testid="key-input"
          required
          autoFocus
        />
        <button type="submit" className="button button-primary" data-testid="key-submit">
          Continue
        </button>
      </form>
    </dialog>
  );
}
