/** What a run asks people: the question with what it is about, the answer while it is open, and who gave it after. */

import { type ReactNode, type RefObject, useId, useMemo, useRef, useState } from "react";
import { answerRequest, ApiError, describeProblem } from "../api";
import { approvalOf, type PlannedStep, previewBeside, readPlannedSteps } from "../answer";
import { useServerTime } from "../clock";
import { formatMoment } from "../format";
import { objectOf } from "../payload";
import type { RequestView } from "../run-view";
import { findField, FormProblem, type FormText, readFields, readInput } from "../schema-form";
import { isObject, type Json } from "../wire";
import { Ago, Countdown } from "./elapsed";
import { CheckIcon, ChevronIcon, CrossIcon, PersonIcon } from "./icons";
import { JsonView } from "./json-view";
import { type FieldProblem, SchemaFields } from "./schema-fields";

const NAME_KEY = "runcast.name";
const MAX_NAME_CHARS = 200;

interface RequestsProps {
  readonly runId: string;
  readonly requests: readonly RequestView[];
  readonly plan: readonly string[];
}

export function Requests({ runId, requests, plan }: RequestsProps): ReactNode {
  return requests.map((request) =>
    request.state === "open" ? (
      <OpenRequest key={request.id} runId={runId} request={request} plan={plan} />
    ) : (
      <ClosedRequest key={request.id} request={request} plan={plan} />
    ),
  );
}

function OpenRequest({ runId, request, plan }: { runId: string; request: RequestView; plan: readonly string[] }): ReactNode {
  const title = useId();
  const { send, isBusy, isSent, problem } = useAnswer(runId, request);
  const by = useName();
  const steps = useMemo(() => readPlannedSteps(request, plan), [request, plan]);
  const preview = previewBeside(request, steps.length > 0);
  const isLate = useServerTime(1_000) > Date.parse(request.expiresAt ?? "9999-12-31T00:00:00Z");
  const shared = { request, isBusy: isBusy || isSent || isLate, problem, send: (value: () => Json) => send(value, by.name) };
  return (
    <section className="request" aria-labelledby={title} data-testid="request" data-kind={request.kind}>
      <header className="request-head">
        <span className="request-kind">
          <PersonIcon /> {request.kind === "approval" ? "Approval needed" : "Answer needed"}
        </span>
        {request.expiresAt && (
          <span className="request-expiry" title={formatMoment(request.expiresAt)}>
            {isLate ? "time is up" : <Countdown to={request.expiresAt} before="expires in " />}
          </span>
        )}
      </header>
      <h2 id={title} className="request-prompt">
        {request.prompt}
      </h2>
      {preview !== null && preview !== undefined && <Preview preview={preview} />}
      {request.kind === "approval" ? (
        <ApprovalForm {...shared} steps={steps} name={<NameField {...by} />} />
      ) : (
        <InputForm {...shared} name={<NameField {...by} />} />
      )}
      <p className="request-note" role="status">
        {isSent ? "Sent. The run goes on as soon as a worker has it." : ""}
      </p>
    </section>
  );
}

interface FormProps {
  readonly request: RequestView;
  readonly isBusy: boolean;
  readonly problem: FieldProblem | null;
  readonly send: (value: () => Json) => void;
  readonly name: ReactNode;
}

function ApprovalForm({ request, isBusy, problem, send, steps, name }: FormProps & { steps: readonly PlannedStep[] }): ReactNode {
  const [left, setLeft] = useState<ReadonlySet<number>>(new Set()); // steps that are not approved
  const comment = useRef<HTMLTextAreaElement>(null);
  const chosen = steps.map(({ index }) => index).filter((index) => !left.has(index));
  const takesComment = "comment" in objectOf(request.schema.properties);
  const decide = (isApproved: boolean): void =>
    send(() => approvalOf(isApproved, steps.length > 0 ? chosen : null, comment.current?.value ?? ""));
  function toggle(index: number): void {
    const next = new Set(left);
    if (!next.delete(index)) next.add(index);
    setLeft(next);
  }
  return (
    <form className="request-form" onSubmit={(event) => event.preventDefault()}>
      {steps.length > 0 && <StepChoice steps={steps} left={left} onToggle={toggle} isBusy={isBusy} />}
      <div className="request-more">
        {takesComment && <CommentField ref={comment} />}
        {name}
      </div>
      <Problem problem={problem} />
      <div className="request-actions">
        <button
          type="button"
          className="button button-primary"
          data-testid="approve-button"
          disabled={isBusy || (steps.length > 0 && chosen.length === 0)}
          onClick={() => decide(true)}
        >
          <CheckIcon /> {left.size > 0 ? `Approve ${chosen.length} of ${steps.length}` : "Approve"}
        </button>
        <button type="button" className="button" data-testid="reject-button" disabled={isBusy} onClick={() => decide(false)}>
          <CrossIcon /> Reject
        </button>
      </div>
    </form>
  );
}

interface StepChoiceProps {
  readonly steps: readonly PlannedStep[];
  readonly left: ReadonlySet<number>;
  readonly onToggle: (index: number) => void;
  readonly isBusy: boolean;
}

function StepChoice({ steps, left, onToggle, isBusy }: StepChoiceProps): ReactNode {
  return (
    <fieldset className="step-choice">
      <legend className="visually-hidden">Steps to approve</legend>
      {steps.map(({ index, name, detail }) => (
        <div key={index} className={left.has(index) ? "step-choice-item is-left" : "step-choice-item"}>
          <label>
            <input
              type="checkbox"
              checked={!left.has(index)}
              disabled={isBusy}
              onChange={() => onToggle(index)}
              data-testid="step-choice"
            />
            <span>{name}</span>
          </label>
          {detail !== null && (
            <details>
              <summary>
                Details <ChevronIcon />
              </summary>
              <JsonView value={detail} />
            </details>
          )}
        </div>
      ))}
    </fieldset>
  );
}

function InputForm({ request, isBusy, problem, send, name }: FormProps): ReactNode {
  const fields = useMemo(() => readFields(request.schema), [request.schema]);
  const [texts, setTexts] = useState<FormText>({});
  return (
    <form
      className="request-form"
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        if (!isBusy) send(() => readInput(fields, texts));
      }}
    >
      <SchemaFields fields={fields} texts={texts} onChange={setTexts} problem={problem} />
      <div className="request-more">{name}</div>
      <Problem problem={problem} />
      <div className="request-actions">
        <button type="submit" className="button button-primary" data-testid="answer-button" disabled={isBusy}>
          {isBusy ? "Sending…" : "Send answer"}
        </button>
      </div>
    </form>
  );
}

function CommentField({ ref }: { ref: RefObject<HTMLTextAreaElement | null> }): ReactNode {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>
        Comment<span className="field-optional"> optional</span>
      </label>
      <textarea ref={ref} id={id} className="input input-comment" rows={1} maxLength={2_000} data-testid="comment-input" />
    </div>
  );
}

function NameField({ name, rename }: { name: string; rename: (name: string) => void }): ReactNode {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>
        Your name<span className="field-optional"> optional</span>
      </label>
      <input
        id={id}
        className="input"
        autoComplete="name"
        maxLength={MAX_NAME_CHARS}
        value={name}
        onChange={(event) => rename(event.target.value)}
        data-testid="name-input"
      />
    </div>
  );
}

/** What belongs to no field. */
function Problem({ problem }: { problem: FieldProblem | null }): ReactNode {
  if (!problem || problem.field !== null) return null;
  return (
    <p className="form-problem" role="alert" data-testid="request-problem">
      {problem.message}
    </p>
  );
}

function Preview({ preview }: { preview: unknown }): ReactNode {
  if (typeof preview === "string") return <div className="request-preview request-text">{preview}</div>;
  if (Array.isArray(preview) && preview.every((item) => typeof item === "string")) {
    return (
      <ol className="request-preview request-items">
        {preview.map((item, place) => (
          <li key={place}>{item}</li>
        ))}
      </ol>
    );
  }
  return (
    <div className="request-preview">
      <JsonView value={preview} />
    </div>
  );
}

function ClosedRequest({ request, plan }: { request: RequestView; plan: readonly string[] }): ReactNode {
  const { state, answer, answeredBy, answeredAt } = request;
  const word = describeAnswer(request);
  const isGood = state !== "expired" && word !== "Rejected";
  return (
    <section className="request request-closed" aria-label="Question that was answered" data-testid="request-closed">
      <p className="request-prompt">{request.prompt}</p>
      <p className={`request-answer tone-${isGood ? "good" : state === "expired" ? "quiet" : "bad"}`}>
        {isGood ? <CheckIcon /> : <CrossIcon />}
        <span data-testid="request-answer">
          <strong>{word}</strong>
          {answeredBy && <> by {answeredBy}</>}
        </span>
        {answeredAt && <span className="muted">{<Ago ts={answeredAt} />}</span>}
        {state === "answered" && <span className="muted">waiting for a worker to go on</span>}
      </p>
      <AnswerDetails request={request} plan={plan} answer={answer} />
    </section>
  );
}

function describeAnswer({ kind, state, answer }: RequestView): string {
  if (state === "expired") return "Nobody answered in time";
  if (kind === "input") return "Answered";
  return isObject(answer) && answer.approved === true ? "Approved" : "Rejected";
}

function AnswerDetails({ request, plan, answer }: { request: RequestView; plan: readonly string[]; answer: unknown }): ReactNode {
  if (request.state === "expired") return null;
  if (request.kind === "input") return typeof answer === "string" ? <p className="request-text">{answer}</p> : <JsonView value={answer} />;
  if (!isObject(answer)) return null;
  const all = readPlannedSteps(request, plan);
  const chosen = Array.isArray(answer.steps) && answer.approved === true ? answer.steps : null;
  return (
    <>
      {chosen && chosen.length < all.length && (
        <p className="muted">
          {chosen.length} of {all.length} steps: {all.filter(({ index }) => chosen.includes(index)).map(({ name }) => name).join(", ")}
        </p>
      )}
      {typeof answer.comment === "string" && <blockquote className="request-comment">{answer.comment}</blockquote>}
    </>
  );
}

interface Answering {
  readonly send: (value: () => Json, by: string) => void;
  readonly isBusy: boolean;
  readonly isSent: boolean;
  readonly problem: FieldProblem | null;
}

function useAnswer(runId: string, request: RequestView): Answering {
  const [isBusy, setBusy] = useState(false);
  const [isSent, setSent] = useState(false);
  const [problem, setProblem] = useState<FieldProblem | null>(null);
  async function send(value: () => Json, by: string): Promise<void> {
    if (isBusy) return;
    setBusy(true);
    setProblem(null);
    try {
      await answerRequest(runId, request.id, value(), by.trim());
      setSent(true);
    } catch (error) {
      setProblem({ message: describeProblem(error), field: fieldOf(error, request) });
    } finally {
      setBusy(false);
    }
  }
  return { send: (value, by) => void send(value, by), isBusy, isSent, problem };
}

function fieldOf(error: unknown, request: RequestView): string | null {
  if (error instanceof FormProblem) return error.field;
  if (!(error instanceof ApiError) || request.kind === "approval") return null;
  return findField(readFields(request.schema), error.field);
}

/** Who answers: there are no accounts, so it is what this browser was told last. */
function useName(): { name: string; rename: (name: string) => void } {
  const [name, setName] = useState(() => localStorage.getItem(NAME_KEY) ?? "");
  function rename(changed: string): void {
    localStorage.setItem(NAME_KEY, changed);
    setName(changed);
  }
  return { name, rename };
}
