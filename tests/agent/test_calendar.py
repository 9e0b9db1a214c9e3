"""Calendar files, read again by the library that others read them with."""

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from icalendar import Calendar
from icalendar.cal.component import Component

from runcast.agent.inputs import CalendarEvent
from runcast.agent.tools.calendar import CalendarTool
from runcast.tools import Risk

NOW = datetime(2029, 1, 1, tzinfo=UTC)


async def make(**given: Any) -> tuple[str, Component]:
    """An event's file, and the event in it."""
    event = CalendarEvent.model_validate({"title": "Lunch", "start": "2030-01-31T12:30", **given})
    output = await CalendarTool(now=lambda: NOW).call(event, lambda *_: None)
    assert output["file"]["contentType"] == "text/calendar; charset=utf-8"
    text = output["file"]["text"]
    (component,) = Calendar.from_ical(text).walk("VEVENT")
    return text, component


async def test_an_event_is_an_hour_on_the_readers_clock() -> None:
    """Without a time zone none is written, so it is half past twelve wherever it is opened."""
    text, event = await make(location="Café; upstairs", description="Bring\nfriends")
    assert text.startswith("BEGIN:VCALENDAR\r\n")
    assert "DTSTART:20300131T123000\r\n" in text
    assert (event["summary"], event["location"], event["description"]) == ("Lunch", "Café; upstairs", "Bring\nfriends")
    assert (event.decoded("dtend") - event.decoded("dtstart"), event.decoded("dtstamp")) == (timedelta(hours=1), NOW)


async def test_a_date_alone_is_a_whole_day() -> None:
    """Its end is the next day, as the format has it."""
    _, event = await make(start="2030-01-31")
    assert (event.decoded("dtstart"), event.decoded("dtend")) == (date(2030, 1, 31), date(2030, 2, 1))


async def test_a_time_zone_comes_with_its_rules() -> None:
    """A file with a zone says what the zone is, for readers that don't know it."""
    text, event = await make(timezone="Europe/Berlin", minutes=30)
    assert "BEGIN:VTIMEZONE" in text
    assert event.decoded("dtstart") == datetime(2030, 1, 31, 12, 30, tzinfo=ZoneInfo("Europe/Berlin"))


async def test_the_same_event_is_known_again() -> None:
    """Two files of one event have one UID, and another event has another."""
    uids = [(await make(**given))[1]["uid"] for given in ({}, {}, {"title": "Dinner"})]
    assert (uids[0] == uids[1], uids[0] == uids[2]) == (True, False)


@pytest.mark.parametrize(
    "given",
    [
        {"timezone": "Mars/Base"},
        {"timezone": "../../etc/passwd"},
        {"start": "2030-01-31T12:30+01:00", "timezone": "Europe/Berlin"},
        {"title": "two\nlines"},
        {"minutes": 0},
        {"minutes": 600_000},
        {"start": "tomorrow"},
    ],
)
def test_what_is_no_event_is_refused(given: dict[str, Any]) -> None:
    """What can't stand in a calendar is refused before anything is made."""
    with pytest.raises(ValueError, match="CalendarEvent"):
        CalendarEvent.model_validate({"title": "Lunch", "start": "2030-01-31T12:30", **given})


def test_nothing_leaves_the_process() -> None:
    """Making a file is no risk."""
    assert CalendarTool().risk_of(CalendarEvent(title="x", start=date(2030, 1, 1))) is Risk.NONE
