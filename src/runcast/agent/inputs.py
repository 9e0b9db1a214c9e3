"""What each tool is told to do, checked. The services' limits stand here: a plan that breaks one is refused whole."""

import json
import re
from datetime import date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from zoneinfo import ZoneInfo

import httpx
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MAX_LINKEDIN_CHARS: Final = 3_000  # LinkedIn's limit for a post's commentary
MAX_SLACK_CHARS: Final = 40_000  # Slack cuts longer messages off
MAX_EMAIL_CHARS: Final = 100_000
MAX_RECIPIENTS: Final = 20
MAX_URL_CHARS: Final = 2_000
MAX_WAIT_SECONDS: Final = 3_600.0
MAX_EVENT_DAYS: Final = 366
_LINE_CHARS: Final = 200
_ADDRESS: Final = re.compile(r"[^@\s,;<>\"()\[\]\\:]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
_SHOWN_CHARS: Final = 80

HttpMethod = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class ToolInput(BaseModel):
    """The input of one tool: JSON, unchangeable, and it knows what to call its step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: ClassVar[str]

    @property
    def step_name(self) -> str:
        """What people read in the timeline."""
        raise NotImplementedError

    def show(self) -> dict[str, Any]:
        """The input as events tell it."""
        return self.model_dump(mode="json", exclude_none=True)


def _require_text(text: str) -> str:
    if not text.strip():
        raise ValueError("the text between the quotes is empty")
    if "\x00" in text:
        raise ValueError("the text holds a NUL character")
    return text


def _limit_chars(service: str, limit: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > limit:
            raise ValueError(f"{service} takes at most {limit:,} characters; this has {len(text):,}")
        return text

    return AfterValidator(check)


def _require_line(text: str) -> str:
    if not text.isprintable() or len(text) > _LINE_CHARS:
        raise ValueError(f"a title is one line of at most {_LINE_CHARS} characters")
    return text


def _require_address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("that is not an e-mail address")
    return text


def _read_date(value: object) -> object:
    """A text that is a date alone stays one, where pydantic would make it midnight."""
    is_date = isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value)
    return date.fromisoformat(value) if is_date and isinstance(value, str) else value


Text = Annotated[str, AfterValidator(_require_text)]
Line = Annotated[str, AfterValidator(_require_text), AfterValidator(_require_line)]
Address = Annotated[str, AfterValidator(_require_address)]


class LinkedInPost(ToolInput):
    """A public post on LinkedIn."""

    tool = "linkedin"
    text: Annotated[Text, _limit_chars("LinkedIn", MAX_LINKEDIN_CHARS)]

    @property
    def step_name(self) -> str:
        return "Post on LinkedIn"


class SlackMessage(ToolInput):
    """A message on Slack. The channel is what the prompt names, if it names one."""

    tool = "slack"
    text: Annotated[Text, _limit_chars("Slack", MAX_SLACK_CHARS)]
    channel: Annotated[str, _limit_chars("the name of a channel", 81)] | None = None

    @property
    def step_name(self) -> str:
        return f"Send to {self.channel} on Slack" if self.channel else "Send on Slack"


class Email(ToolInput):
    """An e-mail of plain text. Without a subject its first line is one."""

    tool = "email"
    to: Annotated[tuple[Address, ...], Field(min_length=1, max_length=MAX_RECIPIENTS)]
    text: Annotated[Text, _limit_chars("an e-mail", MAX_EMAIL_CHARS)]
    subject: Line | None = None

    @property
    def step_name(self) -> str:
        others = len(self.to) - 1
        return _shorten(f"Email {self.to[0]}" + (f" and {others} more" if others else ""))


class CalendarEvent(ToolInput):
    """An event as a calendar file. Without a time zone it is at that time on the clock of whoever opens it."""

    tool = "calendar"
    title: Line
    start: Annotated[datetime | date, BeforeValidator(_read_date)]  # a date alone is a whole day
    minutes: Annotated[int, Field(ge=1, le=MAX_EVENT_DAYS * 1_440)] = 60
    timezone: str | None = Field(default=None, description="An IANA name, such as Europe/Berlin.")
    location: Line | None = None
    description: Annotated[Text, _limit_chars("a description", 10_000)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.timezone is not None:
            _check_timezone(self.timezone)
            if isinstance(self.start, datetime) and self.start.tzinfo is not None:
                raise ValueError("the start has an offset of its own, so leave the time zone out")
        return self

    @property
    def is_whole_day(self) -> bool:
        """Whether it has a date and no time."""
        return not isinstance(self.start, datetime)

    @property
    def end(self) -> datetime | date:
        """When it is over."""
        return self.start + (timedelta(days=1) if self.is_whole_day else timedelta(minutes=self.minutes))

    @property
    def step_name(self) -> str:
        return _shorten(f"Make a calendar file: {self.title}")


class WebPage(ToolInput):
    """A web page, for the text that it has for readers."""

    tool = "read"
    url: Annotated[str, _limit_chars("a URL", MAX_URL_CHARS)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_url(self.url)
        return self

    @property
    def step_name(self) -> str:
        return _shorten(f"Read {self.url}")


class HttpRequest(ToolInput):
    """One HTTP request. `body` is JSON text and is sent as it was typed."""

    tool = "http"
    method: HttpMethod
    url: Annotated[str, _limit_chars("a URL", MAX_URL_CHARS)]
    body: str | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_url(self.url)
        if self.body is not None:
            if self.method in ("GET", "HEAD"):
                raise ValueError(f"{self.method} takes no body; use POST, PUT or PATCH")
            _check_json(self.body)
        return self

    @property
    def step_name(self) -> str:
        return _shorten(f"{self.method} {self.url}")


class Pause(ToolInput):
    """A wait."""

    tool = "wait"
    seconds: float = Field(ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.seconds > MAX_WAIT_SECONDS:
            raise ValueError("a wait lasts at most 1 hour")
        return self

    @property
    def step_name(self) -> str:
        return f"Wait {format_seconds(self.seconds)}"


def format_seconds(seconds: float) -> str:
    """A duration for people: ``1 second``, ``0.25 seconds``."""
    return "1 second" if seconds == 1 else f"{seconds:,.10g} seconds"


def _shorten(name: str) -> str:
    return name if len(name) <= _SHOWN_CHARS else f"{name[: _SHOWN_CHARS - 1]}…"


def _check_timezone(name: str) -> None:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError("that is not a time zone; give a name such as Europe/Berlin") from error


def _check_url(text: str) -> None:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError("that is not a URL") from error
    if url.scheme not in ("http", "https"):
        raise ValueError("only http:// and https:// addresses can be requested")
    if not url.host:
        raise ValueError("the URL names no host")
    if url.userinfo:
        raise ValueError("the URL holds a user name or password, which every watcher would see; leave it out")


def _check_json(text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the JSON is not valid: {str(error)[:_SHOWN_CHARS]}") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}")
