/** Gathers what arrives and hands it on once per animation frame, so that a flood of events costs one render. */

/** A hidden page gets no animation frames, yet its title shall stay true. */
const HIDDEN_MS = 250;

export class FrameBatch<T> {
  #items: T[] = [];
  #flush: (items: T[]) => void;
  #frame = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(flush: (items: T[]) => void) {
    this.#flush = flush;
  }

  add(items: readonly T[]): void {
    if (items.length === 0) return;
    if (this.#items.length === 0) this.#schedule();
    for (const item of items) this.#items.push(item);
  }

  /** Hand on now what has gathered. */
  flush(): void {
    const items = this.#items;
    this.clear();
    if (items.length > 0) this.#flush(items);
  }

  clear(): void {
    this.#items = [];
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    this.#frame = requestAnimationFrame(() => this.flush());
    this.#timer = setTimeout(() => this.flush(), HIDDEN_MS);
  }
}
