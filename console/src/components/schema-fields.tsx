/** The fields of a form that a JSON Schema describes: a runner's input, an answer to a run. */

import { type ReactNode, useEffect, useId, useRef } from "react";
import { describeRange } from "../form-checks";
import { type FormField, type FormText, readItems } from "../schema-form";
import { CrossIcon, PlusIcon } from "./icons";

export interface FieldProblem {
  readonly field: string | null;
  readonly message: string;
}

interface SchemaFieldsProps {
  readonly fields: readonly FormField[];
  readonly texts: FormText;
  readonly onChange: (texts: FormText) => void;
  readonly problem: FieldProblem | null;
}

export function SchemaFields({ fields, texts, onChange, problem }: SchemaFieldsProps): ReactNode {
  return fields.map((field) => (
    <Field
      key={field.path}
      field={field}
      texts={texts}
      set={(path, text) => onChange({ ...texts, [path]: text })}
      problem={problem}
    />
  ));
}

interface FieldProps {
  readonly field: FormField;
  readonly texts: FormText;
  readonly set: (path: string, text: string) => void;
  readonly problem: FieldProblem | null;
}

/** What a control says of itself to a screen reader. */
interface Shared {
  readonly id: string;
  readonly "aria-invalid": boolean;
  readonly "aria-describedby": string | undefined;
  readonly "aria-required": boolean;
}

function Field(props: FieldProps): ReactNode {
  const { field, texts, set, problem } = props;
  const id = useId();
  const box = useRef<HTMLDivElement>(null);
  const wrong = problem?.field === field.path ? problem.message : null;
  useEffect(() => {
    if (wrong !== null) box.current?.querySelector<HTMLElement>("input, select, textarea, button")?.focus();
  }, [wrong, problem]);
  if (field.kind === "group") return <Group {...props} />;
  const hint = hintOf(field);
  const about = [(field.description || hint) && `${id}-about`, wrong && `${id}-wrong`].filter(Boolean);
  const shared: Shared = {
    id,
    "aria-invalid": wrong !== null,
    "aria-describedby": about.join(" ") || undefined,
    "aria-required": field.isRequired,
  };
  const text = texts[field.path] ?? field.initial;
  return (
    <div ref={box} className={`field field-${isSwitch(field) ? "switch" : field.kind}`} data-testid="field" data-path={field.path}>
      <label htmlFor={id}>
        {field.label}
        {!field.isRequired && !isSwitch(field) && <span className="field-optional"> optional</span>}
      </label>
      <Control field={field} text={text} onChange={(changed) => set(field.path, changed)} shared={shared} />
      {(field.description || hint) && (
        <p className="field-about" id={`${id}-about`}>
          {[field.description, hint].filter(Boolean).join(" · ")}
        </p>
      )}
      {wrong !== null && (
        <p className="field-problem" id={`${id}-wrong`} role="alert">
          {wrong}
        </p>
      )}
    </div>
  );
}

/** Fields that belong together; one that need not be there is added by its switch. */
function Group({ field, texts, set, problem }: FieldProps): ReactNode {
  const isThere = (texts[field.path] ?? field.initial) === "true";
  const mayBeAbsent = !field.isRequired || field.isNullable;
  return (
    <fieldset className="field-group">
      <legend>
        {mayBeAbsent ? (
          <label className="field-toggle">
            <input
              type="checkbox"
              checked={isThere}
              onChange={(event) => set(field.path, event.target.checked ? "true" : "")}
            />
            {field.label}
            <span className="field-optional"> optional</span>
          </label>
        ) : (
          field.label
        )}
      </legend>
      {field.description && <p className="field-about">{field.description}</p>}
      {problem?.field === field.path && (
        <p className="field-problem" role="alert">
          {problem.message}
        </p>
      )}
      {isThere &&
        field.fields.map((inner) => <Field key={inner.path} field={inner} texts={texts} set={set} problem={problem} />)}
    </fieldset>
  );
}

interface ControlProps {
  readonly field: FormField;
  readonly text: string;
  readonly onChange: (text: string) => void;
  readonly shared: Shared | { readonly "aria-label": string };
}

function Control({ field, text, onChange, shared }: ControlProps): ReactNode {
  if (isSwitch(field)) {
    return (
      <input
        {...shared}
        type="checkbox"
        checked={text === "true"}
        onChange={(event) => onChange(String(event.target.checked))}
      />
    );
  }
  switch (field.kind) {
    case "boolean":
      return <Choice field={{ ...field, choices: ["true", "false"] }} text={text} onChange={onChange} shared={shared} />;
    case "choice":
      return <Choice field={field} text={text} onChange={onChange} shared={shared} />;
    case "list":
      return <List field={field} text={text} onChange={onChange} shared={shared} />;
    case "json":
    case "lines":
      return (
        <textarea
          {...shared}
          className={field.kind === "json" ? "input input-code" : "input input-lines"}
          rows={4}
          spellCheck={field.kind === "lines"}
          placeholder={field.kind === "json" ? "JSON" : undefined}
          value={text}
          onChange={(event) => onChange(event.target.value)}
        />
      );
    default:
      return (
        <input
          {...shared}
          {...keyboardOf(field)}
          className={`input input-${field.kind}`}
          step={field.kind === "datetime" || field.kind === "time" ? 1 : undefined}
          value={text}
          onChange={(event) => onChange(event.target.value)}
        />
      );
  }
}

function Choice({ field, text, onChange, shared }: ControlProps): ReactNode {
  const mayBeEmpty = !field.isRequired || field.isNullable;
  return (
    <select {...shared} className="input" value={text} onChange={(event) => onChange(event.target.value)}>
      {(text === "" || mayBeEmpty) && <option value="">{mayBeEmpty ? "–" : "Choose…"}</option>}
      {field.choices.map(String).map((choice) => (
        <option key={choice}>{choice}</option>
      ))}
    </select>
  );
}

/** Items one below the other; Enter in one begins the next. */
function List({ field, text, onChange, shared }: ControlProps): ReactNode {
  const items = readItems(text);
  const box = useRef<HTMLDivElement>(null);
  const put = (changed: readonly string[]): void => onChange(JSON.stringify(changed));
  const add = (): void => {
    put([...items, ""]);
    requestAnimationFrame(() => box.current?.querySelector<HTMLElement>("li:last-child :is(input, select)")?.focus());
  };
  const item = field.item ?? field;
  const id = "id" in shared ? shared.id : undefined;
  return (
    <div ref={box} className="field-list" role="group" aria-label={field.label}>
      {items.length > 0 && (
        <ol>
          {items.map((value, place) => (
            <li
              key={place}
              onKeyDown={(event) => {
                if (event.key !== "Enter" || event.nativeEvent.isComposing || !(event.target instanceof HTMLInputElement)) return;
                event.preventDefault();
                add();
              }}
            >
              <Control
                field={{ ...item, isRequired: true }}
                text={value}
                onChange={(changed) => put(items.with(place, changed))}
                shared={{ "aria-label": `${field.label} ${place + 1}` }}
              />
              <button
                type="button"
                className="button button-icon"
                aria-label={`Remove ${field.label} ${place + 1}`}
                onClick={() => put(items.filter((_, other) => other !== place))}
              >
                <CrossIcon />
              </button>
            </li>
          ))}
        </ol>
      )}
      <button type="button" className="button button-small" id={id} onClick={add}>
        <PlusIcon /> Add
      </button>
    </div>
  );
}

/** On or off. One that may also be neither is a choice. */
function isSwitch({ kind, isNullable, initial }: FormField): boolean {
  return kind === "boolean" && !isNullable && initial !== "";
}

/** Text where a browser's own control would swallow what it can't read; the right keys on a phone all the same. */
function keyboardOf({ kind, format }: FormField): { type: string; inputMode?: "decimal" | "numeric" | "email" | "url" } {
  if (kind === "integer") return { type: "text", inputMode: "numeric" };
  if (kind === "number") return { type: "text", inputMode: "decimal" };
  if (kind === "date" || kind === "time") return { type: kind };
  if (kind === "datetime") return { type: "datetime-local" };
  if (format === "email") return { type: "text", inputMode: "email" };
  if (format === "uri") return { type: "text", inputMode: "url" };
  return { type: format === "password" ? "password" : "text" };
}

function hintOf(field: FormField): string {
  if (field.kind !== "number" && field.kind !== "integer") return "";
  const range = describeRange(field);
  return range && `${range[0]?.toUpperCase()}${range.slice(1)}`;
}
