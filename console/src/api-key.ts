/**
 * The API key of this tab, and the one question for it that everything waits for together.
 *
 * It lives in sessionStorage: gone with the tab, never in an address.
 */

const STORAGE_NAME = "runcast.key";
const PROTOCOL = "runcast.v1";

let question: { promise: Promise<void>; answer: () => void } | null = null;
const watchers = new Set<() => void>();

export function readKey(): string | null {
  return sessionStorage.getItem(STORAGE_NAME);
}

/** Whether somebody waits for a key: then the dialog is open. */
export function isKeyAsked(): boolean {
  return question !== null;
}

export function watchKeyQuestion(watcher: () => void): () => void {
  watchers.add(watcher);
  return () => void watchers.delete(watcher);
}

/** Ask for a key, or join those who wait; resolves when there is a new one. */
export function askForKey(): Promise<void> {
  if (!question) {
    let answer = (): void => {};
    const promise = new Promise<void>((resolve) => {
      answer = resolve;
    });
    question = { promise, answer };
    tellWatchers();
  }
  return question.promise;
}

export function answerKey(key: string): void {
  sessionStorage.setItem(STORAGE_NAME, key);
  const answered = question;
  question = null;
  tellWatchers();
  answered?.answer();
}

/** A browser's WebSocket sends no headers of ours, so the key travels as a subprotocol. */
export function keyProtocols(): readonly string[] {
  const key = readKey();
  return key === null ? [] : [PROTOCOL, `runcast.bearer.${encodeBase64Url(key)}`];
}

export function encodeBase64Url(text: string): string {
  const binary = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function tellWatchers(): void {
  for (const watcher of watchers) watcher();
}
