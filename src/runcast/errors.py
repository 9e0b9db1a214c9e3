"""One tree of errors. Each says whose fault it is and what to do, and how it looks on every edge.

`code` is the stable word that programs compare; `http_status` and `close_code` are how HTTP and WebSocket say it.
Foreign exceptions are translated into these once, at the backend that met them.
"""

from typing import ClassVar


class RuncastError(Exception):
    """Whatever Runcast itself has to say. `str(error)` is a sentence for people."""

    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong inside Runcast"
    http_status: ClassVar[int] = 500
    close_code: ClassVar[int] = 1011


class InvalidInputError(RuncastError):
    """The caller's input is wrong. `field` names the place, as a path with dots."""

    code = "invalid_input"
    title = "The input is not valid"
    http_status = 422
    close_code = 4400

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidCursorError(InvalidInputError):
    """A cursor that is neither `<attempt>-<seq>` nor a plain seq."""

    code = "invalid_cursor"
    title = "The cursor is not valid"
    http_status = 400

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not a cursor: give <attempt>-<seq>, such as 1-42, or a plain seq", field="after")


class AmbiguousCursorError(InvalidInputError):
    """A cursor given twice."""

    code = "ambiguous_cursor"
    title = "The cursor is given twice"
    http_status = 400

    def __init__(self) -> None:
        super().__init__("`after` and `starting_after` are two names of one thing: give one", field="after")


class SubscriptionLimitError(RuncastError):
    """One socket subscribes to more than it may."""

    code = "too_many_subscriptions"
    title = "The socket has too many subscriptions"
    http_status = 429
    close_code = 1008

    def __init__(self, limit: int) -> None:
        super().__init__(f"one socket has up to {limit} subscriptions; end one, or open another socket")


class TooLargeError(RuncastError):
    """Something passes its size limit; the message names both."""

    code = "too_large"
    title = "The input is too large"
    http_status = 413
    close_code = 1009


class RunNotFoundError(RuncastError):
    """No run has this id."""

    code = "run_not_found"
    title = "There is no such run"
    http_status = 404
    close_code = 4404

    def __init__(self, run_id: str) -> None:
        super().__init__(f"no run has the id {run_id[:64]!r}")


class RunnerNotFoundError(RuncastError):
    """No runner is registered under this name."""

    code = "runner_not_found"
    title = "There is no such runner"
    http_status = 404

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no runner is called {name[:64]!r}; known: {', '.join(sorted(known)) or 'none'}")


class RunEndedError(RuncastError):
    """The run has ended, so the request has nothing to act on."""

    code = "run_ended"
    title = "The run has already ended"
    http_status = 409

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(f"run {run_id} ended as {status}; an ended run does not change")


class RunNotEndedError(RuncastError):
    """What is only for ended runs was asked for one that hasn't ended."""

    code = "run_not_ended"
    title = "The run has not ended"
    http_status = 409

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(f"run {run_id} is {status}: wait for its end, or cancel it first")


class ArtifactNotFoundError(RuncastError):
    """The run has made nothing under this id, or its bytes are gone."""

    code = "artifact_not_found"
    title = "There is no such artifact"
    http_status = 404

    def __init__(self, run_id: str, artifact_id: str) -> None:
        super().__init__(f"run {run_id[:64]} has no artifact {artifact_id[:64]!r}")


class RequestNotFoundError(RuncastError):
    """The run has asked nothing under this id."""

    code = "request_not_found"
    title = "The run has not asked that"
    http_status = 404

    def __init__(self, run_id: str, request_id: str) -> None:
        super().__init__(f"run {run_id} has no request {request_id[:64]!r}")


class RequestClosedError(RuncastError):
    """A request that takes no answer any more."""

    code = "request_closed"
    title = "The request is closed"
    http_status = 409

    def __init__(self, request_id: str, why: str) -> None:
        super().__init__(f"{request_id} takes no answer any more: {why}")


class LimitReachedError(RuncastError):
    """As many runs of this kind as may be are under way, and the runner turns further ones down."""

    code = "limit_reached"
    title = "Too many such runs are under way"
    http_status = 409

    def __init__(self, key: str, most: int) -> None:
        runs = "run is" if most == 1 else "runs are"
        super().__init__(f"{most} {runs} under way for {key!r}, and more are turned down; try again later")


class IdempotencyConflictError(RuncastError):
    """An idempotency key comes again, with something else to be done."""

    code = "idempotency_conflict"
    title = "The idempotency key is another run's"
    http_status = 409

    def __init__(self, key: str, run_id: str, difference: str) -> None:
        super().__init__(f"the key {key[:64]!r} is known: its run {run_id} has another {difference}; take a new key")


class StaleAttemptError(RuncastError):
    """A later attempt holds the run: whatever this worker still writes for it is refused."""

    code = "stale_attempt"
    title = "Another worker has taken over the run"
    http_status = 409

    def __init__(self, run_id: str, attempt: int) -> None:
        super().__init__(f"attempt {attempt} of run {run_id} is over: another worker holds the run or it has ended")


class UnauthorizedError(RuncastError):
    """No key, or a wrong one."""

    code = "unauthorized"
    title = "An API key is needed"
    http_status = 401
    close_code = 4401


class SignInNeededError(UnauthorizedError):
    """The application that Runcast is part of doesn't know who asks. To programs it is `unauthorized` as well."""

    title = "Nobody is signed in"


class ForbiddenOriginError(RuncastError):
    """A Host or Origin that this server doesn't answer."""

    code = "forbidden_origin"
    title = "This Host or Origin is not allowed"
    http_status = 403
    close_code = 4403


class UnavailableError(RuncastError):
    """A part that the request needs can't be reached now; trying again later may work."""

    code = "unavailable"
    title = "A part of the service is unavailable"
    http_status = 503
    close_code = 1013


class ConfigurationError(RuncastError):
    """The settings or the command line can't work; the message says what to change."""

    code = "configuration"
    title = "The configuration is not valid"


class FatalError(RuncastError):
    """Raised by a runner or a step: it fails now and is not tried again."""

    code = "fatal"
    title = "The run failed"


class StepTimedOutError(RuncastError, TimeoutError):
    """A step's function has not ended in its time. It may be tried again."""

    code = "step_timed_out"
    title = "The step took too long"


class StepFailedError(RuncastError):
    """A step has failed in an earlier attempt, with something that can't be raised again as it was."""

    code = "step_failed"
    title = "The step failed"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")


class RunCanceledError(RuncastError):
    """Raised in a plain function whose run was canceled or has used up its time: clean up and return."""

    code = "run_canceled"
    title = "The run was canceled"
    http_status = 409

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id} is to stop")


class ChildFailedError(RuncastError):
    """A run that another has started and waits for ended otherwise than as done."""

    code = "child_failed"
    title = "A child run did not succeed"

    def __init__(self, run_id: str, status: str, error: object) -> None:
        why = getattr(error, "message", None)
        super().__init__(f"child run {run_id} ended as {status}" + (f": {why}" if why else ""))
        self.run_id = run_id
        self.status = status


class PromptNotUnderstoodError(InvalidInputError):
    """A prompt outside the grammar, or past its limits; nothing of it was executed."""

    code = "prompt_not_understood"
    title = "The prompt was not understood"

    def __init__(self, message: str) -> None:
        super().__init__(message, field="prompt")


class ToolError(RuncastError):
    """A tool could not do its work. `is_retryable` says whether the same request may work later."""

    code = "tool_failed"
    title = "A tool could not do its work"
    http_status = 502

    def __init__(self, message: str, *, is_retryable: bool = False) -> None:
        super().__init__(message)
        self.is_retryable = is_retryable


class ServiceRefusedError(ToolError):
    """The service answered, and its answer is no. The message has its status and its own words."""

    code = "service_refused"
    title = "The service refused the request"


class AddressForbiddenError(ToolError):
    """The HTTP tool was sent to an address that it must not reach."""

    code = "address_forbidden"
    title = "The HTTP tool does not go there"


class OutcomeUnknownError(ToolError):
    """A request may have taken effect or not: look before trying again."""

    code = "outcome_unknown"
    title = "It is not known whether the request took effect"


class StreamError(RuncastError):
    """A model's stream broke off, or says that the answer has failed. Asking again may work."""

    code = "stream_failed"
    title = "The model's stream failed"
    http_status = 502


class ModelError(ToolError):
    """The model that plans a prompt could not be asked, or came to no end."""

    code = "model_failed"
    title = "The model could not be asked"


class IllegalCommitError(RuncastError):
    """A worker's write that no run can take: a status that can't follow, or events with a hole before them."""

    code = "illegal_commit"
    title = "The write breaks the rules of a run"
