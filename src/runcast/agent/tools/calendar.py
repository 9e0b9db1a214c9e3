"""Calendar files: an event as the text of an .ics file, which every calendar opens. Nothing leaves this process.

The same event has the same UID, so opening its file twice doesn't make two events.
"""

import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

from icalendar import Calendar, Event

from runcast.agent.inputs import CalendarEvent
from runcast.agent.tools.base import FILE_KEY
from runcast.tools import Report, Risk

_PRODUCT: Final = "-//Runcast//Runcast//EN"
_NAMESPACE: Final = uuid.UUID("6f0c1f7e-6f5a-5a55-9d5c-3f6b6a2f9f10")


class CalendarTool:
    """Makes the file."""

    def __init__(self, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now: Final = now

    def risk_of(self, tool_input: CalendarEvent) -> Risk:  # noqa: ARG002 - the same for every event
        """See `Tool.risk_of`."""
        return Risk.NONE

    def describe(self, tool_input: CalendarEvent) -> str:
        """See `Tool.describe`."""
        return f"made a calendar file for {tool_input.title}"

    async def call(self, tool_input: CalendarEvent, report: Report) -> Mapping[str, Any]:  # noqa: ARG002 - at once
        """See `Tool.call`."""
        start, end = (_place(moment, tool_input.timezone) for moment in (tool_input.start, tool_input.end))
        event = Event.new(
            summary=tool_input.title,
            start=start,
            end=end,
            location=tool_input.location,
            description=tool_input.description,
            stamp=self._now(),
            uid=uuid.uuid5(_NAMESPACE, tool_input.model_dump_json()),
        )
        calendar = Calendar.new(prodid=_PRODUCT, subcomponents=[event])
        calendar.add_missing_timezones()
        text = calendar.to_ical().decode()
        return {FILE_KEY: {"name": "event.ics", "contentType": "text/calendar; charset=utf-8", "text": text}}


def _place(moment: datetime | date, timezone: str | None) -> datetime | date:
    is_floating = isinstance(moment, datetime) and moment.tzinfo is None
    if timezone is None or not is_floating:
        return moment
    assert isinstance(moment, datetime)  # noqa: S101 - a floating one is
    return moment.replace(tzinfo=ZoneInfo(timezone))
