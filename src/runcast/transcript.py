"""How a run reads on a terminal: one line per event, streamed text as it comes. Does no I/O.

What runs and tools say is not trusted: control characters are shown, never sent to the terminal.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from runcast.client import ControlEvent
from runcast.events import FINAL_STATUSES, ControlType, EventType, RunEvent, RunStatus

_MAX_LINE_CHARS: Final = 2_000
_COLOURS: Final = {"green": "32", "red": "31", "yellow": "33", "cyan": "36", "dim": "2"}
_INDENT: Final = " " * 14


class Transcript:
    """Turns events into text, in order; keeps the names of steps and whether a line of streamed text is open."""

    def __init__(self, *, is_coloured: bool) -> None:
        self.ended_as: RunStatus | None = None
        self._is_coloured: Final = is_coloured
        self._steps: Final[dict[str, str]] = {}
        self._is_line_open = False

    def render(self, event: RunEvent | ControlEvent) -> str:
        """The text to write for an event; empty if there is nothing to say."""
        if event.type == EventType.MESSAGE_DELTA:
            return self._stream(str(event.payload.get("delta", "")))
        self._note_end(event)
        describe = _DESCRIBE.get(event.type)
        text = describe(self, event.payload) if describe else None
        return self._line(event.ts, text) if text else self.close()

    def close(self) -> str:
        """What ends an open line."""
        ending, self._is_line_open = "\n" if self._is_line_open else "", False
        return ending

    def _line(self, ts: str, text: str) -> str:
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
        text = self._paint({"failed": "red", "timed_out": "red"}.get(status, "yellow"), _plain(status))
        return f"{text}  {_describe_error(payload['error'])}" if payload.get("error") else text

    def _completed(self, payload: Mapping[str, Any]) -> str:
        return f"{self._paint('green', 'done')}  {_compact(payload.get('output'))}"

    def _step_started(self, payload: Mapping[str, Any]) -> str:
        name = _plain(payload.get("name", "step"))
        self._steps[str(payload.get("stepId"))] = name
        return f"{self._paint('cyan', '▸')} {name}"

    def _step_succeeded(self, payload: Mapping[str, Any]) -> str:
        seconds = payload.get("ms", 0) / 1000 if isinstance(payload.get("ms"), int | float) else 0
        return f"{self._paint('green', '✔')} {self._step_name(payload)} {self._paint('dim', f'{seconds:.2f} s')}"

    def _step_failed(self, payload: Mapping[str, Any]) -> str:
        again = self._paint("dim", " (will be tried again)") if payload.get("willRetry") else ""
        mark = self._paint("red", "✘")
        return f"{mark} {self._step_name(payload)}  {_describe_error(payload.get('error'))}{again}"

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
        return f"  {_plain(payload.get('message', _compact(payload)))}"

    def _tool(self, payload: Mapping[str, Any]) -> str:
        return f"  {self._paint('dim', 'tool')} {_plain(payload.get('name') or payload.get('tool') or '?')}"

    def _input_requested(self, payload: Mapping[str, Any]) -> str:
        return f"{self._paint('yellow', '?')} {_plain(payload.get('prompt', 'input is needed'))}"

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
    EventType.LOG: Transcript._log,  # noqa: SLF001
    EventType.INPUT_REQUESTED: Transcript._input_requested,  # noqa: SLF001
    ControlType.REWIND: Transcript._rewind,  # noqa: SLF001
}


def _describe_error(error: Any) -> str:
    if isinstance(error, Mapping):
        return f"{_plain(error.get('code', 'error'))}: {_plain(error.get('message', ''))}"
    return _plain(error)


def _compact(value: Any) -> str:
    return _plain(json.dumps(value, ensure_ascii=False, separators=(", ", ": ")))


def _plain(value: object, *, keep: str = "") -> str:
    text = str(value)
    if len(text) > _MAX_LINE_CHARS and not keep:
        text = f"{text[:_MAX_LINE_CHARS]}…"
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)
