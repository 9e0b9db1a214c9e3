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


def test_a_question_says_what_it_is_about_and_how_to_answer_it() -> None:
    """Prompt, preview and the commands; then who decided what."""
    assert read(
        ("input_requested", {"requestId": "q1", "kind": "approval", "prompt": "Send?", "preview": "Dear\nAda"}),
        ("input_resolved", {"requestId": "q1", "kind": "approval", "value": {"approved": True}, "by": "Bob"}),
        ("input_requested", {"requestId": "q2", "kind": "input", "prompt": "How many?", "expiresAt": TS}),
        ("input_resolved", {"requestId": "q2", "kind": "input", "resolution": "answered", "value": 3}),
        ("input_requested", {"requestId": "q3", "kind": "approval", "prompt": "All?", "preview": [{"name": "a"}, 7]}),
        ("input_resolved", {"requestId": "q3", "kind": "approval", "resolution": "expired"}),
    ) == (
        "12:00:00.500  ? Send?\n"
        "                Dear\n"
        "                Ada\n"
        "              runcast answer r --request q1 --approve\n"
        "              runcast answer r --request q1 --reject\n"
        "12:00:00.500  approved by Bob\n"
        "12:00:00.500  ? How many?\n"
        "              until 2026-01-01T12:00:00.500Z\n"
        "              runcast answer r --request q2 --value JSON\n"
        "12:00:00.500  answered  3\n"
        "12:00:00.500  ? All?\n"
        "                0. a\n"
        "                1. 7\n"
        "              runcast answer r --request q3 --approve\n"
        "              runcast answer r --request q3 --reject\n"
        "12:00:00.500  ? nobody has answered in time\n"
    )


def test_what_waits_says_until_when_and_why() -> None:
    """Delays, retries of the run and of a step."""
    error = {"code": "boom", "message": "no"}
    assert read(
        ("run_status", {"status": "delayed", "dueAt": TS}),
        ("run_status", {"status": "retrying", "attempt": 2, "reason": "failed", "error": error, "retryInMs": 1500}),
        ("run_status", {"status": "retrying", "attempt": 3, "reason": "worker_lost"}),
        ("step_failed", {"stepId": "s", "error": error, "willRetry": True, "retryInMs": 2000}),
        ("step_started", {"stepId": "s", "name": "one", "index": 1, "try": 2}),
        ("run_status", {"status": "timed_out", "error": {"code": "timed_out", "message": "after 3 s"}}),
    ) == (
        "12:00:00.500  delayed  until 2026-01-01T12:00:00.500Z\n"
        "12:00:00.500  retrying  boom: no (tried again in 1.5 s)\n"
        "12:00:00.500  retrying  its worker was lost\n"
        "12:00:00.500  ✘ s  boom: no (tried again in 2.0 s)\n"
        "12:00:00.500  ▸ one (try 2)\n"
        "12:00:00.500  timed_out  timed_out: after 3 s\n"
    )


def test_artifacts_logs_and_children_are_told() -> None:
    """Where a file is, how loud a line is, which runs were started and how they ended."""
    url = "/runs/r/artifacts/a1"
    assert read(
        ("artifact", {"artifactId": "a1", "name": "out.csv", "contentType": "text/csv", "bytes": 1200, "url": url}),
        ("log", {"level": "warning", "message": "slow", "data": {"ms": 9}}),
        ("log", {"level": "info", "message": "fine"}),
        ("child_started", {"runId": "c1", "runner": "resize"}),
        ("child_ended", {"runId": "c1", "status": "failed"}),
        ("tool_failed", {"toolCallId": "t", "tool": "http", "error": {"code": "refused", "message": "no"}}),
    ) == (
        "12:00:00.500    ⤓ out.csv (text/csv, 1,200 bytes)  /runs/r/artifacts/a1\n"
        '12:00:00.500    warning  slow  {"ms": 9}\n'
        "12:00:00.500    fine\n"
        "12:00:00.500  ⑂ resize  c1\n"
        "12:00:00.500  ✘ failed  c1\n"
        "12:00:00.500    tool http  failed  refused: no\n"
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
