/** The fields of a runner's input, below what the runner says of itself. */

import { type ReactNode, useMemo } from "react";
import type { Runner } from "../api";
import { type FormText, readFields } from "../schema-form";
import { type FieldProblem, SchemaFields } from "./schema-fields";

interface RunnerFieldsProps {
  readonly runner: Runner;
  readonly texts: FormText;
  readonly onChange: (texts: FormText) => void;
  readonly problem: FieldProblem | null;
}

export function RunnerFields({ runner, texts, onChange, problem }: RunnerFieldsProps): ReactNode {
  const fields = useMemo(() => readFields(runner.inputSchema), [runner]);
  const habits = describeHabits(runner);
  return (
    <fieldset className="fields">
      <legend className="visually-hidden">Input of {runner.name}</legend>
      {runner.description && (
        <p className="runner-about" data-testid="runner-description">
          {runner.description}
        </p>
      )}
      {habits.length > 0 && (
        <p className="runner-habits">
          {habits.map((habit) => (
            <span key={habit} className="tag">
              {habit}
            </span>
          ))}
        </p>
      )}
      {fields.length === 0 && <p className="muted">This runner takes no input.</p>}
      <SchemaFields fields={fields} texts={texts} onChange={onChange} problem={problem} />
    </fieldset>
  );
}

function describeHabits({ retries = 0, timeoutSeconds, cron }: Runner): readonly string[] {
  return [
    retries > 0 ? `tried ${retries + 1} times at most` : "",
    timeoutSeconds ? `${timeoutSeconds} s at most` : "",
    cron ? `by itself: ${cron}` : "",
  ].filter(Boolean);
}
