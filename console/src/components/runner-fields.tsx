/** The fields of a runner's input. */

import { type ReactNode, useId, useMemo } from "react";
import type { Runner } from "../api";
import { type FormField, type FormText, readFields } from "../schema-form";

interface RunnerFieldsProps {
  readonly runner: Runner;
  readonly texts: FormText;
  readonly onChange: (texts: FormText) => void;
  readonly problemField: string | null;
}

export function RunnerFields({ runner, texts, onChange, problemField }: RunnerFieldsProps): ReactNode {
  const fields = useMemo(() => readFields(runner.inputSchema), [runner]);
  return (
    <fieldset className="fields">
      <legend className="visually-hidden">Input of {runner.name}</legend>
      {runner.description && <p className="muted">{runner.description}</p>}
      {fields.length === 0 && <p className="muted">This runner takes no input.</p>}
      {fields.map((field) => (
        <Field
          key={field.name}
          field={field}
          text={texts[field.name] ?? field.initial}
          isWrong={problemField === field.name}
          onChange={(text) => onChange({ ...texts, [field.name]: text })}
        />
      ))}
    </fieldset>
  );
}

interface FieldProps {
  readonly field: FormField;
  readonly text: string;
  readonly isWrong: boolean;
  readonly onChange: (text: string) => void;
}

function Field({ field, text, isWrong, onChange }: FieldProps): ReactNode {
  const id = useId();
  const shared = { id, "aria-invalid": isWrong, "aria-describedby": field.description ? `${id}-about` : undefined };
  return (
    <div className={`field field-${field.kind}`}>
      <label htmlFor={id}>
        {field.label}
        {!field.isRequired && field.kind !== "boolean" && <span className="muted"> (optional)</span>}
      </label>
      <Control field={field} text={text} onChange={onChange} shared={shared} />
      {field.description && (
        <p className="muted" id={`${id}-about`}>
          {field.description}
        </p>
      )}
    </div>
  );
}

interface ControlProps {
  readonly field: FormField;
  readonly text: string;
  readonly onChange: (text: string) => void;
  readonly shared: { id: string; "aria-invalid": boolean; "aria-describedby": string | undefined };
}

function Control({ field, text, onChange, shared }: ControlProps): ReactNode {
  switch (field.kind) {
    case "boolean":
      return (
        <input
          {...shared}
          type="checkbox"
          checked={text === "true"}
          onChange={(event) => onChange(String(event.target.checked))}
        />
      );
    case "choice":
      return (
        <select {...shared} className="input" value={text} onChange={(event) => onChange(event.target.value)}>
          {text === "" && <option value="">Choose…</option>}
          {field.choices.map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      );
    case "json":
      return (
        <textarea
          {...shared}
          className="input input-code"
          rows={4}
          spellCheck={false}
          placeholder="JSON"
          value={text}
          onChange={(event) => onChange(event.target.value)}
        />
      );
    default:
      return (
        <input
          {...shared}
          className="input"
          type="text"
          inputMode={field.kind === "text" ? "text" : "decimal"}
          value={text}
          onChange={(event) => onChange(event.target.value)}
        />
      );
  }
}
