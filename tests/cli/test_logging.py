"""Logs: readable or JSON, never a secret, never an exception."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from runcast.observe.logging import configure_logging

log = structlog.get_logger()


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)
    structlog.reset_defaults()


class Terminal(io.TextIOWrapper):
    """A stream that keeps its bytes; a terminal if it says so."""

    def __init__(self, *, encoding: str = "utf-8", is_terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def text(self) -> str:
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode()


def configured(shape: str = "text", *, level: str = "info", encoding: str = "utf-8", tty: bool = False) -> Terminal:
    stream = Terminal(encoding=encoding, is_terminal=tty)
    configure_logging(level=level, format=shape, stream=stream)
    return stream


def test_text_is_time_level_event_and_fields() -> None:
    """A person reads key=value, with quotes where a value has blanks."""
    stream = configured()
    log.info("🔗 WebSocket connected", run_id="abc", note="two words")
    assert stream.text[13:] == 'info    🔗 WebSocket connected run_id=abc note="two words"\n'


def test_json_is_one_object_per_line() -> None:
    """A program reads JSON."""
    stream = configured("json")
    log.info("🔔 handler registered", run_id="abc", count=2)
    fields = json.loads(stream.text)
    assert {"level": "info", "event": "🔔 handler registered", "run_id": "abc", "count": 2}.items() <= fields.items()
    assert fields["ts"].endswith("Z")


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    """Whoever reads decides."""
    on_terminal, elsewhere = configured("auto", tty=True), configured("auto")
    log.info("event")
    assert json.loads(elsewhere.text)["event"] == "event"
    configure_logging(level="info", format="auto", stream=on_terminal)
    log.info("event")
    assert "\x1b[32minfo" in on_terminal.text


def test_levels_below_the_least_are_left_out() -> None:
    """Per-event lines cost nothing unless asked for."""
    stream = configured(level="warning")
    log.info("no")
    log.warning("yes")
    assert [line.split()[-1] for line in stream.text.splitlines()] == ["yes"]


def test_the_standard_librarys_loggers_have_the_same_shape() -> None:
    """Uvicorn and SQLAlchemy don't look like strangers."""
    stream = configured("json")
    logging.getLogger("uvicorn.error").warning("slow %s", "client")
    fields = json.loads(stream.text)
    assert (fields["event"], fields["level"], fields["logger"]) == ("slow client", "warning", "uvicorn.error")


def test_others_info_is_left_out() -> None:
    """Httpx tells addresses at info level, and an address may be a secret."""
    stream = configured(level="debug")
    logging.getLogger("httpx").info("POST https://hooks.example/secret")
    assert stream.text == ""


@pytest.mark.parametrize("shape", ["text", "json"])
def test_secrets_are_masked(shape: str) -> None:
    """By their names, and passwords in URLs by their shape."""
    stream = configured(shape)
    log.info("x", api_key="k-123", url="redis://user:p-456@host/0", nested={"Authorization": "Bearer t-789"})
    for secret in ("k-123", "p-456", "t-789"):
        assert secret not in stream.text
    assert "redis://user:***@host/0" in stream.text


def test_a_value_can_not_forge_a_line_or_move_the_cursor() -> None:
    """What users type is shown escaped."""
    stream = configured()
    log.info("prompt", text="a\nb\x1b[2J")
    assert stream.text.count("\n") == 1
    assert "\x1b" not in stream.text


@pytest.mark.parametrize("shape", ["text", "json"])
def test_a_terminal_without_emoji_gets_the_line_all_the_same(shape: str) -> None:
    """Latin-1 is no reason to fail, and JSON stays JSON."""
    stream = configured(shape, encoding="latin-1")
    log.info("📡 set up")
    assert "set up" in stream.text
    assert shape == "text" or json.loads(stream.text)["event"] == "📡 set up"


def test_logging_never_raises() -> None:
    """A broken value, wrong arguments, a closed stream: the program goes on."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    stream = configured()
    log.info("x", value=Broken())
    logging.getLogger("other").error("%d", "not a number")
    assert "could not be shown" in stream.text
    assert "%d" in stream.text
    stream.close()
    log.info("nobody hears")


def test_exceptions_are_told_whole() -> None:
    """The traceback comes with the line."""
    stream = configured()
    try:
        int("the reason")
    except ValueError:
        log.exception("❌ failed")
    assert "❌ failed\nTraceback" in stream.text
    assert "ValueError: invalid literal" in stream.text
