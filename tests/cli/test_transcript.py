"""How a run reads on a terminal."""

from collections.abc import Mapping
from typing import Any

from runcast.client import ControlEvent
from runcast.core.pacing import Backoff
from runcast.events import RunEvent, RunStatus
from runcast.transcript import Transcript

TS = "2026-01-01T12:00:00.500Z"


def read(*events: tuple[str, Mapping[str, Any]], is_coloured: bool = False) -> str:
    transcript = Transcript(is_coloured=is_coloured)
    numbered = enumerate(events, 1)
    return "".join(
        transcript.render(RunEvent(type=kind, payload=payload, ts=TS, run_id="r", seq=seq, attempt=1))
        for seq, (kind, payload) in numbered
    )


def test_a_run_reads_line_by_line() -> None:
    """Statuses, steps by name, and the output."""
    assert read(
        ("run_status", {"status": "running"}),
        ("plan_generated", {"steps": [{"name": "one"}, {"title": "two"}]}),
        ("step_started", {"stepId": "s1", "name": "one", "index": 0}),
        ("step_progress", {"value": 1, "total": 2, "message": "half"}),
        ("step_succeeded", {"stepId": "s1", "output": 1, "ms": 1250}),
        ("step_failed", {"stepId": "s2", "error": {"code": "boom", "message": "no"}, "willRetry": True}),
        ("run_completed", {"status": "done", "output": {"ok": True}}),
    ) == (
        "12:00:00.500  running\n"
        "12:00:00.500  plan: one → two\n"
        "12:00:00.500  ▸ one\n"
        "12:00:00.500    1/2  half\n"
        "12:00:00.500  ✔ one 1.25 s\n"
        "12:00:00.500  ✘ s2  boom: no (will be tried again)\n"
        '12:00:00.500  done  {"ok": true}\n'
    )


def test_text_streams_in_one_block() -> None:
    """Deltas follow each other without line breaks of ours; the next event begins a line."""
    assert read(
        ("message_delta", {"messageId": "m", "delta": "Hel"}),
        ("message_delta", {"messageId": "m", "delta": "lo\nworld"}),
        ("run_status", {"status": "running"}),
    ) == ("              Hello\n              world\n12:00:00.500  running\n")


def test_what_a_run_says_can_not_drive_the_terminal() -> None:
    """Escape sequences are shown as text."""
    text = read(("message_delta", {"delta": "\x1b[2J"}), ("log", {"message": "\x1b]0;title\x07"}))
    assert "\x1b" not in text
    assert "\\x1b[2J" in text


def test_unknown_types_are_passed_over() -> None:
    """A newer server may say what this reader doesn't know."""
    assert read(("of_tomorrow", {})) == ""


def test_a_rewind_is_told() -> None:
    """Lines above that no longer count don't pass in silence."""
    transcript = Transcript(is_coloured=False)
    assert "were lost" in transcript.render(ControlEvent(type="rewind", payload={"to": "1"}, ts=TS))


def test_the_end_is_remembered() -> None:
    """The command's exit code comes from it."""
    transcript = Transcript(is_coloured=False)
    event = RunEvent(type="run_status", payload={"status": "canceled"}, ts=TS, run_id="r", seq=1, attempt=1)
    transcript.render(event)
    assert transcript.ended_as is RunStatus.CANCELED


def test_a_backoff_doubles_to_its_cap_and_is_spread() -> None:
    """From half of the full wait to all of it, never above the cap, for any number of failures."""
    backoff = Backoff(base_seconds=1, cap_seconds=10)
    assert [backoff.delay_seconds(failures, jitter=1) for failures in (1, 2, 3, 4, 5, 10_000)] == [1, 2, 4, 8, 10, 10]
    assert backoff.delay_seconds(2, jitter=0) == 1
