/** Where a run begins: a prompt, or the input of another runner. */

import { type KeyboardEvent, type ReactNode, useEffect, useId, useRef, useState } from "react";
import { runPath } from "../addresses";
import {
  ApiError,
  type CreatedRun,
  createRun,
  describeProblem,
  listRunners,
  type Mode,
  MODES,
  newKey,
  PROMPT_RUNNER,
  type Runner,
  startRunner,
} from "../api";
import { navigate } from "../router";
import { findField, FormProblem, type FormText, readFields, readInput } from "../schema-form";
import { RunnerFields } from "./runner-fields";
import type { FieldProblem } from "./schema-fields";

const SUGGESTIONS = [
  "Post 'Hello from Quik.day!' on LinkedIn",
  "wait 3 seconds then GET https://example.com",
  "Send 'Deploy done' to #ops on Slack",
];

/** The built-in runner that is started from an ended run's page. */
const UNDO_RUNNER = "undo";

const MODE_WORDS: Readonly<Record<Mode, readonly [name: string, about: string]>> = {
  auto: ["Auto", "The plan is carried out at once"],
  approval: ["Ask first", "The plan waits until somebody has approved it, or a part of it"],
  preview: ["Preview", "The plan is shown; nothing is done"],
};

export function RunForm(): ReactNode {
  const runners = useRunners();
  const [name, setName] = useState(PROMPT_RUNNER);
  const [prompt, setPrompt] = useState("");
  const [mode, setMode] = useState<Mode>("auto");
  const [texts, setTexts] = useState<FormText>({});
  const { submit, isBusy, problem } = useSubmit();
  const promptField = useRef<HTMLTextAreaElement>(null);
  const runner = runners.find((known) => known.name === name);
  const isPrompt = name === PROMPT_RUNNER;
  const shown = problem && { ...problem, field: runner ? findField(readFields(runner.inputSchema), problem.field) : null };

  function start(): void {
    if (isPrompt) {
      const text = prompt.trim();
      if (text) submit((key) => createRun(text, mode, key), JSON.stringify([text, mode]));
      else promptField.current?.focus();
    } else if (runner) {
      submit((key) => startRunner(runner.name, readInput(readFields(runner.inputSchema), texts), key), JSON.stringify([name, texts]));
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
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          start();
        }}
      >
        {isPrompt ? (
          <PromptField ref={promptField} value={prompt} onChange={setPrompt} onSubmit={start} problem={problem} />
        ) : (
          runner && <RunnerFields runner={runner} texts={texts} onChange={setTexts} problem={shown} />
        )}
        <div className="composer-bar">
          {runners.length > 1 && <RunnerChoice runners={runners} name={name} onChoose={choose} />}
          {isPrompt && <ModeChoice mode={mode} onChoose={setMode} />}
          {isPrompt && runners.length < 2 && (
            <span className="composer-hint">Enter runs it · Shift+Enter starts a new line</span>
          )}
          <button type="submit" className="button button-primary" data-testid="prompt-submit" disabled={isBusy}>
            {isBusy ? "Starting…" : "Run"}
          </button>
        </div>
      </form>
      {problem && (isPrompt || shown?.field === null) && (
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
  readonly problem: FieldProblem | null;
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

function ModeChoice({ mode, onChoose }: { mode: Mode; onChoose: (mode: Mode) => void }): ReactNode {
  const group = useId();
  return (
    <fieldset className="modes">
      <legend className="visually-hidden">How much is done by itself</legend>
      {MODES.map((each) => (
        <label key={each} className="mode" title={MODE_WORDS[each][1]}>
          <input
            type="radio"
            name={group}
            value={each}
            checked={mode === each}
            onChange={() => onChoose(each)}
            data-testid={`mode-${each}`}
          />
          <span>{MODE_WORDS[each][0]}</span>
        </label>
      ))}
    </fieldset>
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
      (known) => isGone || setRunners(known.filter((runner) => runner.name !== UNDO_RUNNER)),
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
  readonly problem: FieldProblem | null;
}

/** Start a run and go to its page. The same content tried again keeps its key, so it can't start twice. */
function useSubmit(): Submission {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<FieldProblem | null>(null);
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
  return error instanceof ApiError ? error.field : null;
}
