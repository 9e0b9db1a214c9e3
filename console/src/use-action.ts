/** A button's request: one at a time, its failure shown. */

import { useState } from "react";
import { describeProblem } from "./api";

export interface Action {
  readonly act: (action: () => Promise<unknown>) => void;
  readonly isBusy: boolean;
  readonly problem: string | null;
}

export function useAction(): Action {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  function act(action: () => Promise<unknown>): void {
    setBusy(true);
    setProblem(null);
    action()
      .catch((error: unknown) => setProblem(describeProblem(error)))
      .finally(() => setBusy(false));
  }
  return { act, isBusy, problem };
}
