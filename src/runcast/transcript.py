"""How a run reads on a terminal: one line per event, streamed text as it comes. Does no I/O.

What runs and tools say is not trusted: control characters are shown, never sent to the terminal.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from runcast.client import ControlEvent, RunView
from runcast.events import FINAL_STATUSES, ControlType, EventType, RequestKind, RunEvent, RunStatus

_MAX_LINE_CHARS: Final = 2_000
_COLOURS: Final = {"green": "32", "red": "31", "yellow": "33", "cyan": "36", "dim": "2"}
_MAX_PREVIEW_LINES: Final = 40
_INDENT: Final = " " * 14
_MAX_ASKED_CHARS: Final = 80
_UNLISTED: Final = frozenset({"steps", "requests", "children"})


class Transcript:
    """Turns events into text, in order; keeps the names of steps and whether a line of streamed text is open."""

    def __init__(self, *, is_coloured: bool) -> None:
        self.ended_as: RunStatus | None = None
        self._is_coloured: Final = is_coloured
        self._steps: Final[dict[str, str]] = {}
        self._is_line_open = False
        self._run_id = "RUN_ID"

    def render(self, event: RunEvent | ControlEvent) -> str:
        """The text to write for an event; empty if there is nothing to say."""
        if event.type == EventType.MESSAGE_DELTA:
            return self._stream(str(event.payload.get("delta", "")))
        self._note_end(event)
        self._run_id = getattr(event, "run_id", self._run_id)
        describe = _DESCRIBE.get(event.type)
        text = describe(self, event.payload) if describe else None
        return self._line(event.ts, text) if text else self.close()

    def name_steps(self, names: Mapping[str, str]) -> None:
        """Steps by their ids, of which no event has told."""
        self._steps.update({step_id: _plain(name) for step_id, name in names.items()})

    def close(self) -> str:
        """What ends an open line."""
        ending, self._is_line_open = "\n" if self._is_line_open else "", False
        return ending

    def _line(self, ts: str, text: str) -> str:
        text = text.replace("\n", f"\n{_INDENT}")
        return f"{self.close()}{self._paint('dim', _plain(ts[11:23]))}  {text}\n"

    def _stream(self, delta: str) -> str:
        if not delta:
            return ""
        opening = "" if self._is_line_open else _INDENT
        self._is_line_open = True
        return opening + _plain(delta, keep="\n\t").replace("\n", f"\n{_INDENT}")

    def _note_end(self, event: RunEvent | ControlEvent) -> None:
        if not isinstance(event, RunEvent):
            return
        if event.type == EventType.RUN_COMPLETED:
            self.ended_as = RunStatus.DONE
        elif event.type == EventType.RUN_STATUS and event.payload.get("status") in FINAL_STATUSES:
            self.ended_as = RunStatus(event.payload["status"])

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._is_coloured else text

    def _status(self, payload: Mapping[str, Any]) -> str | None:
        status = str(payload.get("status", ""))
        if status == "connected":
            return None
        parts = [self._paint({"failed": "red", "timed_out": "red"}.get(status, "yellow"), _plain(status))]
        if payload.get("dueAt"):
            parts.append(f"until {_plain(payload['dueAt'])}")
        if payload.get("reason") == "worker_lost":
            parts.append("its worker was lost")
        if payload.get("error"):
            parts.append(_describe_error(payload["error"]))
        return "  ".join(parts) + self._describe_retry(payload)

    def _completed(self, payload: Mapping[str, Any]) -> str:
        return f"{self._paint('green', 'done')}  {_compact(payload.get('output'))}"

    def _step_started(self, payload: Mapping[str, Any]) -> str:
        name = _plain(payload.get("name", "step"))
        self._steps[str(payload.get("stepId"))] = name
        again = self._paint("dim", f" (try {_plain(payload['try'])})") if payload.get("try") else ""
        return f"{self._paint('cyan', '▸')} {name}{again}"

    def _step_succeeded(self, payload: Mapping[str, Any]) -> str:
        seconds = payload.get("ms", 0) / 1000 if isinstance(payload.get("ms"), int | float) else 0
        return f"{self._paint('green', '✔')} {self._step_name(payload)} {self._paint('dim', f'{seconds:.2f} s')}"

    def _step_failed(self, payload: Mapping[str, Any]) -> str:
        again = self._describe_retry(payload) or " (will be tried again)" if payload.get("willRetry") else ""
        mark = self._paint("red", "✘")
        return f"{mark} {self._step_name(payload)}  {_describe_error(payload.get('error'))}{self._paint('dim', again)}"

    def _describe_retry(self, payload: Mapping[str, Any]) -> str:
        wait = payload.get("retryInMs")
        return f" (tried again in {wait / 1000:.1f} s)" if isinstance(wait, int | float) else ""

    def _step_name(self, payload: Mapping[str, Any]) -> str:
        step_id = str(payload.get("stepId"))
        return self._steps.get(step_id, _plain(step_id))

    def _plan(self, payload: Mapping[str, Any]) -> str:
        steps = payload.get("steps") or []
        names = [_plain(step.get("name") or step.get("title") or "?") for step in steps if isinstance(step, Mapping)]
        return f"plan: {' → '.join(names)}"

    def _progress(self, payload: Mapping[str, Any]) -> str:
        value, total, message = payload.get("value"), payload.get("total"), payload.get("message")
        of = f"/{_plain(total)}" if total is not None else ""
        return f"  {_plain(value)}{of}" + (f"  {_plain(message)}" if message else "")

    def _log(self, payload: Mapping[str, Any]) -> str:
        level = str(payload.get("level") or "info")
        colour = {"error": "red", "critical": "red", "warning": "yellow"}.get(level)
        head = "" if level == "info" else f"{self._paint(colour or 'dim', _plain(level))}  "
        data = f"  {self._paint('dim', _compact(payload['data']))}" if payload.get("data") else ""
        return f"  {head}{_plain(payload.get('message', _compact(payload)))}{data}"

    def _artifact(self, payload: Mapping[str, Any]) -> str:
        size = payload.get("bytes")
        about = [_plain(payload.get("contentType") or ""), f"{size:,} bytes" if isinstance(size, int) else ""]
        name = f"{_plain(payload.get('name', 'artifact'))} ({', '.join(filter(None, about))})"
        return f"  {self._paint('cyan', '⤓')} {name}  {_plain(payload.get('url', ''))}"

    def _child_started(self, payload: Mapping[str, Any]) -> str:
        child = _plain(payload.get("runId", "?"))
        return f"{self._paint('cyan', '⑂')} {_plain(payload.get('runner', 'run'))}  {self._paint('dim', child)}"

    def _child_ended(self, payload: Mapping[str, Any]) -> str:
        is_done = payload.get("status") == RunStatus.DONE
        mark = self._paint("green", "✔") if is_done else self._paint("red", "✘")
        return (
            f"{mark} {_plain(payload.get('status', 'ended'))}  {self._paint('dim', _plain(payload.get('runId', '?')))}"
        )

    def _tool(self, payload: Mapping[str, Any]) -> str:
        return f"  {self._paint('dim', 'tool')} {_plain(payload.get('name') or payload.get('tool') or '?')}"

    def _tool_failed(self, payload: Mapping[str, Any]) -> str:
        return f"{self._tool(payload)}  {self._paint('red', 'failed')}  {_describe_error(payload.get('error'))}"

    def _input_requested(self, payload: Mapping[str, Any]) -> str:
        lines = [f"{self._paint('yellow', '?')} {_plain(payload.get('prompt', 'input is needed'))}"]
        if payload.get("preview") is not None:
            lines.append(_preview(payload["preview"]))
        if payload.get("expiresAt"):
            lines.append(self._paint("dim", f"until {_plain(payload['expiresAt'])}"))
        how = ["--approve", "--reject"] if payload.get("kind") == RequestKind.APPROVAL else ["--value JSON"]
        request_id = f" --request {_plain(payload['requestId'])}" if payload.get("requestId") else ""
        lines += [f"runcast answer {_plain(self._run_id)}{request_id} {option}" for option in how]
        return "\n".join(lines)

    def _input_resolved(self, payload: Mapping[str, Any]) -> str:
        if payload.get("resolution") == "expired":
            return f"{self._paint('red', '?')} nobody has answered in time"
        by = f" by {_plain(payload['by'])}" if payload.get("by") else ""
        value = payload.get("value")
        if payload.get("kind") == RequestKind.APPROVAL and isinstance(value, Mapping):
            is_approved = value.get("approved") is True
            said = self._paint("green", "approved") if is_approved else self._paint("red", "rejected")
            comment = f"  {_plain(value['comment'])}" if value.get("comment") else ""
            return f"{said}{by}{comment}"
        return f"{self._paint('green', 'answered')}{by}  {_compact(value)}"

    def _rewind(self, _payload: Mapping[str, Any]) -> str:
        return self._paint("yellow", "the last events were lost with their worker; going on from before them")


_DESCRIBE: Final[Mapping[str, Callable[[Transcript, Mapping[str, Any]], str | None]]] = {
    EventType.RUN_STATUS: Transcript._status,  # noqa: SLF001  # the class's own table
    EventType.RUN_COMPLETED: Transcript._completed,  # noqa: SLF001
    EventType.STEP_STARTED: Transcript._step_started,  # noqa: SLF001
    EventType.STEP_SUCCEEDED: Transcript._step_succeeded,  # noqa: SLF001
    EventType.STEP_FAILED: Transcript._step_failed,  # noqa: SLF001
    EventType.STEP_PROGRESS: Transcript._progress,  # noqa: SLF001
    EventType.PROGRESS: Transcript._progress,  # noqa: SLF001
    EventType.PLAN_GENERATED: Transcript._plan,  # noqa: SLF001
    EventType.TOOL_STARTED: Transcript._tool,  # noqa: SLF001
    EventType.TOOL_FAILED: Transcript._tool_failed,  # noqa: SLF001
    EventType.LOG: Transcript._log,  # noqa: SLF001
    EventType.ARTIFACT: Transcript._artifact,  # noqa: SLF001
    EventType.CHILD_STARTED: Transcript._child_started,  # noqa: SLF001
    EventType.CHILD_ENDED: Transcript._child_ended,  # noqa: SLF001
    EventType.INPUT_REQUESTED: Transcript._input_requested,  # noqa: SLF001
    EventType.INPUT_RESOLVED: Transcript._input_resolved,  # noqa: SLF001
    ControlType.REWIND: Transcript._rewind,  # noqa: SLF001
}


def render_listed(run: RunView, *, now: datetime) -> str:
    """A run as a line of a list."""
    asked = " ".join(run.prompt.split()) if run.prompt is not None else _compact(run.input)
    shown = asked if len(asked) <= _MAX_ASKED_CHARS else f"{asked[: _MAX_ASKED_CHARS - 1]}…"
    age = _describe_age((now - run.created_at).total_seconds())
    return f"{_plain(run.run_id)}  {_plain(run.status):<17}  {_plain(run.runner):<12}  {age:>6}  {_plain(shown)}"


def encode_listed(run: RunView) -> str:
    """A run of a list as JSON, without what lists leave out."""
    fields = msgspec.to_builtins(run)
    return msgspec.json.encode({name: fields[name] for name in fields if name not in _UNLISTED}).decode()


def _describe_age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(0, int(seconds))} s"


def _describe_error(error: Any) -> str:
    if isinstance(error, Mapping):
        return f"{_plain(error.get('code', 'error'))}: {_plain(error.get('message', ''))}"
    return _plain(error)


def _preview(preview: Any) -> str:
    """A text with its lines; a list one item per line; anything else as JSON."""
    lines = str(preview).splitlines() if isinstance(preview, str) else None
    if lines is None and isinstance(preview, list):
        lines = [f"{place}. {_name(item)}" for place, item in enumerate(preview)]
    lines = lines if lines is not None else [_compact(preview)]
    more = [f"… {len(lines) - _MAX_PREVIEW_LINES} more"] if len(lines) > _MAX_PREVIEW_LINES else []
    return "\n".join([*("  " + _plain(line) for line in lines[:_MAX_PREVIEW_LINES]), *more])


def _name(item: Any) -> str:
    name = (item.get("name") or item.get("title")) if isinstance(item, Mapping) else item
    return str(name) if isinstance(name, str) else _compact(item)


def _compact(value: Any) -> str:
    return _plain(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def _plain(value: object, *, keep: str = "") -> str:
    text = str(value)
    if len(text) > _MAX_LINE_CHARS and not keep:
        text = f"{text[:_MAX_LINE_CHARS]}…"
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)
