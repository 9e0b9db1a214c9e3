/** What a field of a form is, whatever schema it was made of. */

import type { Json } from "./wire";

export type FieldKind =
  | "text"
  | "lines"
  | "number"
  | "integer"
  | "boolean"
  | "choice"
  | "date"
  | "datetime"
  | "time"
  | "group"
  | "list"
  | "json";

export interface FormField {
  /** Where the value goes; empty for a form that is one value. */
  readonly path: string;
  readonly name: string;
  readonly label: string;
  readonly description: string;
  readonly kind: FieldKind;
  readonly isRequired: boolean;
  readonly isNullable: boolean;
  readonly choices: readonly Json[];
  /** What the field holds at first, as text. */
  readonly initial: string;
  readonly minimum: number | null;
  readonly maximum: number | null;
  /** Whether the bounds themselves are out. */
  readonly isAboveMinimum: boolean;
  readonly isBelowMaximum: boolean;
  readonly minLength: number;
  readonly maxLength: number | null;
  readonly pattern: string | null;
  /** `email`, `uri` and the like, for the keyboard of a phone. */
  readonly format: string;
  /** Of a group. */
  readonly fields: readonly FormField[];
  /** Of a list: what each item is. */
  readonly item: FormField | null;
}
