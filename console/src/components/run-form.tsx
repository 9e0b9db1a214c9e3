/** Where a run begins: a prompt, or the input of another runner. */

import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";
import { runPath } from "../addresses";
import {
  ApiError,
  type CreatedRun,
  createRun,
  describeProblem,
  listRunners,
  newKey,
  PROMPT_RUNNER,
  type Runner,
  startRunner,
} from "../api";
import { navigate } from "../router";
import { FormProblem, type FormText, readFields, readInput } from "../schema-form";
import { RunnerFields } from "./runner-fields";

const SUGGESTIONS = [
  "Post 'Hello from Quik.day!' on LinkedIn",
  "wait 3 seconds then GET https://example.com",
  "Send 'Deploy done' to #ops on Slack",
];

interface Problem {
  readonly message: string;
  readonly field: string | null;
}

export function RunForm(): ReactNode {
  const runners = useRunners();
  const [name, setName] = useState(PROMPT_RUNNER);
  const [prompt, setPrompt] = useState("");
  const [texts, setTexts] = useState<FormText>({});
  const { submit, isBusy, problem } = useSubmit();
  const promptField = useRef<HTMLTextAreaElement>(null);
  const runner = runners.find((known) => known.name === name);
  const isPrompt = name === PROMPT_RUNNER;

  function start(): void {
    if (isPrompt) {
      const text = prompt.trim();
      if (text) submit((key) => createRun(text, key), text);
      else promptField.current?.focus();
    } else if (runner) {
      const fields = readFields(runner.inputSchema);
      submit((key) => startRunner(runner.name, readInput(fields, texts), key), JSON.stringify([name, texts]));
    }
  }

  function choose(chosen: string): void {
    setName(chosen);
    setTexts({});
  }

  return (
    <section aria-label="New run">
      <form
        className="composer"
        onSubmit={(event) => {
          event.preventDefault();
          start();
        }}
      >
        {isPrompt ? (
          <PromptField ref={promptField} value={prompt} onChange={setPrompt} onSubmit={start} problem={problem} />
        ) : (
          runner && <RunnerFields runner={runner} texts={texts} onChange={setTexts} problemField={problem?.field ?? null} />
        )}
        <div className="composer-bar">
          {runners.length > 1 ? (
            <RunnerChoice runners={runners} name={name} onChoose={choose} />
          ) : (
            <span className="composer-hint">Enter runs it · Shift+Enter starts a new line</span>
          )}
          <button type="submit" className="button button-primary" data-testid="prompt-submit" disabled={isBusy}>
            {isBusy ? "Starting…" : "Run"}
          </button>
        </div>
      </form>
      {problem && (
        <p className="form-problem" role="alert" id="run-problem">
          {problem.message}
        </p>
      )}
      {isPrompt && (
        <Suggestions
          onChoose={(text) => {
            setPrompt(text);
            promptField.current?.focus();
          }}
        />
      )}
    </section>
  );
}

interface PromptFieldProps {
  readonly ref: React.Ref<HTMLTextAreaElement>;
  readonly value: string;
  readonly onChange: (value: string) => void;
  readonly onSubmit: () => void;
  readonly problem: Problem | null;
}

function PromptField({ ref, value, onChange, onSubmit, problem }: PromptFieldProps): ReactNode {
  function submitOnEnter(event: KeyboardEvent): void {
    // Enter that ends an input method's composition belongs to the input method.
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    onSubmit();
  }
  return (
    <textarea
      ref={ref}
      className="composer-text"
      data-testid="prompt-input"
      aria-label="Prompt"
      aria-describedby={problem ? "run-problem" : undefined}
      aria-invalid={problem !== null}
      placeholder="Say what should be done…"
      rows={2}
      value={value}
      onChange={(event) => onChange(event.target.value)}
      onKeyDown={submitOnEnter}
      autoFocus
    />
  );
}

interface RunnerChoiceProps {
  readonly runners: readonly Runner[];
  readonly name: string;
  readonly onChoose: (name: string) => void;
}

function RunnerChoice({ runners, name, onChoose }: RunnerChoiceProps): ReactNode {
  const id = useId();
  return (
    <div className="composer-runner">
      <label htmlFor={id}>Runner</label>
      <select
        id={id}
        className="input input-small"
        value={name}
        onChange={(event) => onChoose(event.target.value)}
        data-testid="runner-select"
      >
        {runners.map((runner) => (
          <option key={runner.name}>{runner.name}</option>
        ))}
      </select>
    </div>
  );
}

function Suggestions({ onChoose }: { onChoose: (text: string) => void }): ReactNode {
  return (
    <ul className="suggestions" aria-label="Examples">
      {SUGGESTIONS.map((text) => (
        <li key={text}>
          <button type="button" className="chip" onClick={() => onChoose(text)}>
            {text}
          </button>
        </li>
      ))}
    </ul>
  );
}

/** The runners there are; until they are known, and if they can't be, the prompt alone. */
function useRunners(): readonly Runner[] {
  const [runners, setRunners] = useState<readonly Runner[]>([]);
  useEffect(() => {
    let isGone = false;
    listRunners().then(
      (known) => isGone || setRunners(known),
      () => {}, // the list of runs tells that the server can't be reached
    );
    return () => {
      isGone = true;
    };
  }, []);
  return runners;
}

interface Submission {
  readonly submit: (start: (key: string) => Promise<CreatedRun>, content: string) => void;
  readonly isBusy: boolean;
  readonly problem: Problem | null;
}

/** Start a run and go to its page. The same content tried again keeps its key, so it can't start twice. */
function useSubmit(): Submission {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const last = useRef({ content: "", key: "" });

  async function submit(start: (key: string) => Promise<CreatedRun>, content: string): Promise<void> {
    if (isBusy) return;
    if (last.current.content !== content) last.current = { content, key: newKey() };
    setBusy(true);
    setProblem(null);
    try {
      const { runId } = await start(last.current.key);
      navigate(runPath(runId));
    } catch (error) {
      setProblem({ message: describeProblem(error), field: fieldOf(error) });
    } finally {
      setBusy(false);
    }
  }

  return { submit: (start, content) => void submit(start, content), isBusy, problem };
}

function fieldOf(error: unknown): string | null {
  if (error instanceof FormProblem) return error.field;
  if (error instanceof ApiError) return error.field?.replace(/^input\./, "") ?? null;
  return null;
}
