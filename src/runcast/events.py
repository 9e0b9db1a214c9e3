"""The words of the wire: event types, statuses, cursors, and how an event becomes bytes.

An event is encoded once, by the worker that numbers it; from there to the last watcher its bytes are never
encoded again. `read_event` therefore looks only at the few places that the gateway needs, without parsing JSON.

Invariant: the bytes of a logged event open with ``{"type":"`` and close with ``,"seq":N,"attempt":M}``. A quote
inside a JSON string is always escaped, so the last ``,"seq":`` of an event is never part of its payload.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Self

import msgspec

from runcast.errors import InvalidCursorError

MAX_SEQ: Final = 2**53 - 1
"""The largest seq or attempt: what a JavaScript number holds exactly."""

UNKNOWN_ATTEMPT: Final = -1
"""The attempt of a cursor that was given as a plain seq."""


class RunStatus(StrEnum):
    """Where a run is in its life. `core.lifecycle` says which may follow which."""

    QUEUED = "queued"
    DELAYED = "delayed"
    RUNNING = "running"
    RETRYING = "retrying"
    AWAITING_APPROVAL = "awaiting_approval"
    AWAITING_INPUT = "awaiting_input"
    CANCELING = "canceling"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMED_OUT = "timed_out"

    @property
    def is_final(self) -> bool:
        """Whether the run has ended: nothing follows."""
        return self in FINAL_STATUSES


FINAL_STATUSES: Final = frozenset({RunStatus.DONE, RunStatus.FAILED, RunStatus.CANCELED, RunStatus.TIMED_OUT})


class StepStatus(StrEnum):
    """Where a step is in its life."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class RequestKind(StrEnum):
    """What a run asks people for."""

    APPROVAL = "approval"
    INPUT = "input"


class EventType(StrEnum):
    """Every type that a log can hold. A reader ignores types it doesn't know."""

    RUN_STATUS = "run_status"
    RUN_COMPLETED = "run_completed"
    STEP_STARTED = "step_started"
    STEP_PROGRESS = "step_progress"
    STEP_SUCCEEDED = "step_succeeded"
    STEP_FAILED = "step_failed"
    STEP_RESET = "step_reset"
    MESSAGE_STARTED = "message_started"
    MESSAGE_DELTA = "message_delta"
    MESSAGE_COMPLETED = "message_completed"
    TOOL_STARTED = "tool_started"
    TOOL_COMPLETED = "tool_completed"
    TOOL_FAILED = "tool_failed"
    PLAN_GENERATED = "plan_generated"
    INPUT_REQUESTED = "input_requested"
    INPUT_RESOLVED = "input_resolved"
    CHILD_STARTED = "child_started"
    CHILD_ENDED = "child_ended"
    PROGRESS = "progress"
    LOG = "log"
    ARTIFACT = "artifact"
    USAGE = "usage"
    CUSTOM = "custom"


RESERVED_EVENT_TYPES: Final = frozenset(
    {
        EventType.RUN_STATUS,
        EventType.RUN_COMPLETED,
        EventType.STEP_STARTED,
        EventType.STEP_SUCCEEDED,
        EventType.STEP_FAILED,
        EventType.STEP_RESET,
        EventType.INPUT_REQUESTED,
        EventType.INPUT_RESOLVED,
        EventType.CHILD_STARTED,
        EventType.CHILD_ENDED,
    }
)
"""Types that change state in the database: a runner causes them through `RunContext`, never by `emit`."""


class ControlType(StrEnum):
    """Frames of the connection itself: without seq, never stored. (`connected` travels as a `run_status`.)"""

    SNAPSHOT = "snapshot"
    REWIND = "rewind"
    HEARTBEAT = "heartbeat"
    BYE = "bye"


# Neither of the next two can be part of a cycle, and there are a great many of them: the garbage collector is told to
# leave them alone, or it would look at every event of every watched run again and again, and hold up those that come.


class Cursor(msgspec.Struct, frozen=True, order=True, gc=False):
    """A place in a run's log: the last event seen. Ordered as Redis orders stream ids: attempt, then seq."""

    attempt: int
    seq: int

    def __str__(self) -> str:
        return str(self.seq) if self.attempt == UNKNOWN_ATTEMPT else f"{self.attempt}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `<attempt>-<seq>` or a plain seq.

        Raises:
            InvalidCursorError: the text is neither, or a number is above `MAX_SEQ`.

        """
        head, dash, tail = text.partition("-")
        attempt, seq = (head, tail) if dash else (str(UNKNOWN_ATTEMPT), head)
        if not (_is_number(seq) and (not dash or _is_number(attempt))):
            raise InvalidCursorError(text[:40])
        return cls(int(attempt), int(seq))


START: Final = Cursor(0, 0)
"""Before the first event."""


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_SEQ  # noqa: PLR2004


class RunEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One thing that happened in a run, numbered by whoever held the run then."""

    type: str
    payload: Mapping[str, Any]
    ts: str
    run_id: str
    step_id: str | None = None
    seq: int
    attempt: int

    @property
    def cursor(self) -> Cursor:
        """The event's own place."""
        return Cursor(self.attempt, self.seq)


class LoggedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as the delivery core sees it: its place, what it says of the run's status, and its bytes."""

    cursor: Cursor
    raw: bytes
    status: RunStatus | None = None


_encoder: Final = msgspec.json.Encoder(decimal_format="string")
_decoder: Final = msgspec.json.Decoder(RunEvent)
STATUS_START: Final = b'{"type":"run_'
"""How the bytes of every event that tells a status begin."""

_STATUS_PREFIX: Final = b'{"type":"run_status","payload":{"status":"'
_COMPLETED_PREFIX: Final = b'{"type":"run_completed"'
_SEQ_KEY: Final = b',"seq":'
_ATTEMPT_KEY: Final = b',"attempt":'


def encode_event(event: RunEvent) -> bytes:
    """The event's bytes on the wire. `read_event` relies on their order of keys."""
    return _encoder.encode(event)


def decode_event(raw: bytes) -> RunEvent:
    """The whole event, payload included.

    Raises:
        msgspec.DecodeError: the bytes are not an event.

    """
    return _decoder.decode(raw)


def log_event(event: RunEvent) -> LoggedEvent:
    """Encode an event and keep what the core needs of it beside the bytes."""
    return read_event(encode_event(event))


def read_event(raw: bytes) -> LoggedEvent:
    """Place and status of an encoded event, read from its two ends.

    Raises:
        ValueError: the bytes don't end as an event does.

    """
    # Fast path: every event of every run passes here once per gateway; a full parse costs ten times as much.
    seq_at = raw.rindex(_SEQ_KEY)
    attempt_at = raw.index(_ATTEMPT_KEY, seq_at)
    seq = int(raw[seq_at + len(_SEQ_KEY) : attempt_at])
    attempt = int(raw[attempt_at + len(_ATTEMPT_KEY) : -1])
    return LoggedEvent(Cursor(attempt, seq), raw, _read_status(raw) if raw.startswith(STATUS_START) else None)


def end_of(attempt: int, seq: int) -> bytes:
    """How the bytes of the event at a place end, and of no other in its run."""
    return f',"seq":{seq},"attempt":{attempt}}}'.encode()  # bytes' own % takes twice as long


def _read_status(raw: bytes) -> RunStatus | None:
    if raw.startswith(_STATUS_PREFIX):
        end = raw.index(b'"', len(_STATUS_PREFIX))
        return RunStatus(raw[len(_STATUS_PREFIX) : end].decode())
    return RunStatus.DONE if raw.startswith(_COMPLETED_PREFIX) else None


def encode_control(control: ControlType | EventType, run_id: str, payload: Mapping[str, Any], ts: str) -> bytes:
    """A control frame: the four public keys and nothing else."""
    return _encoder.encode({"type": control.value, "payload": payload, "ts": ts, "runId": run_id})


def encode_json(value: Any) -> bytes:
    """JSON as the wire has it, for whatever else travels.

    Raises:
        TypeError: the value holds something that JSON can't say.

    """
    return _encoder.encode(value)


def format_ts(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds: ``2026-01-01T00:00:00.000Z``."""
    # Fast path: every event has one. msgspec writes it in a fifth of isoformat's time, with a fraction if it has any.
    text = _encoder.encode(moment.astimezone(UTC)).decode()
    return f"{text[1:24]}Z" if moment.microsecond else f"{text[1:20]}.000Z"
