"""The run log in Redis: a stream and a channel per run, and `RedisPubSubService`, which appends and subscribes.

Stream `{run:<id>}:log` with ids `<attempt>-<seq>`, channel `run:<id>`: with these braces both hash to the same slot.
One script keeps and publishes a batch; the bytes published are the bytes that the watcher gets. The stream's last id
is the fence: Redis itself refuses whatever isn't higher.

Never: numbers an event, encodes one, or knows the database.
"""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec
import redis.asyncio as redis

from runcast.backends.redis_client import redis_errors, translated
from runcast.backends.redis_links import Links, open_links
from runcast.backends.redis_wire import Argument
from runcast.errors import UnavailableError
from runcast.events import MAX_SEQ, START, UNKNOWN_ATTEMPT, Cursor, LoggedEvent, RunEvent, log_event, read_event
from runcast.logs import get_logger
from runcast.ports import Appended, AppendHandler, AppendResult, EventHandler, Fenced, Missing, RawHandler, Unsubscribe
from runcast.records import LinkState

log = get_logger()

RUN_CHANNEL_PREFIX: Final = "run:"
ALL_RUNS_CHANNEL: Final = "runs"
CONTROL_CHANNEL: Final = "runcast:control"
_MAX_ROUND_SECONDS: Final = 60
_RESULTS: Final[Mapping[bytes, Callable[[Cursor], AppendResult]]] = {
    b"appended": Appended,
    b"missing": Missing,
    b"fenced": Fenced,
}


class RedisPubSubService:
    """`RunLog` on Redis ≥ 7.0. `start` before use, `close` after; the client stays the caller's."""

    def __init__(self, client: Any, *, retention_seconds: int, max_events: int, links: Links | None = None) -> None:
        links = links or open_links(client)
        self._client: Final[redis.Redis] = client
        self._subscriber: Final = links.subscriber
        self._handlers: Final[Counter[str]] = Counter()  # by run
        self._handler_total = 0
        self._retention: Final = _Retention(retention_seconds)
        self._max_events: Final = max_events
        self._logger: Final = log.bind()  # bound once: asking a lazy logger costs more than the rest of an append
        self._wire: Final = links.wire
        self._append: Final = links.append
        self._fence: Final = links.fence

    async def start(self) -> None:
        """Begin to listen."""
        await self._subscriber.start()

    async def close(self) -> None:
        """Stop listening."""
        await self._subscriber.close()
        await self._wire.close()

    async def publish_run_event(self, run_id: str, event: RunEvent) -> AppendResult:
        """Keep one event and publish it on `run:<run_id>`."""
        return await self.append(run_id, [log_event(event)])

    async def append(self, run_id: str, events: Sequence[LoggedEvent]) -> AppendResult:
        """See `RunLog.append`."""
        results: list[AppendResult | Exception] = []
        await self.append_all([(run_id, events)], lambda _, result: results.append(result))
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    async def append_all(self, appends: Sequence[tuple[str, Sequence[LoggedEvent]]], tell: AppendHandler) -> None:
        """See `RunLog.append_all`."""
        results = await self._try_append(appends)
        failed = [place for place, result in enumerate(results) if isinstance(result, UnavailableError)]
        if failed:
            # One quick try more hides a connection that was lost meanwhile; repeating an append changes nothing.
            again = await self._try_append([appends[place] for place in failed])
            for place, result in zip(failed, again, strict=True):
                results[place] = result
        is_traced = self._logger.is_enabled_for(logging.DEBUG)
        for place, result in enumerate(results):
            if is_traced:
                self._trace_append(*appends[place], result)
            tell(place, result)

    async def fence(self, run_id: str, attempt: int, *, floor: int) -> Cursor:
        """See `RunLog.fence`."""
        with redis_errors():
            kept = await self._fence([stream_of(run_id)], [attempt, floor, self._retention.seconds])
        return Cursor(int(kept[0]), int(kept[1]))

    async def read(self, run_id: str, after: Cursor, *, limit: int) -> Sequence[LoggedEvent]:
        """See `RunLog.read`."""
        with redis_errors():
            start = await self._resolve(run_id, after) if after.attempt == UNKNOWN_ATTEMPT else after
            if start is None:
                return []
            entries = await self._range(run_id, f"({_id_of(start)}", "+", limit=limit)
        return _events_of(run_id, entries)

    async def read_last(self, run_ids: Sequence[str]) -> Sequence[Cursor]:
        """See `RunLog.read_last`."""
        # Fast path: every gateway asks for every quiet run every few seconds, see `python -m bench --only growth`.
        with redis_errors():
            answers = await self._wire.call_all(
                ("XREVRANGE", stream_of(run_id), "+", "-", "COUNT", 1) for run_id in run_ids
            )
        return [last_of(entries) for entries in answers]

    async def on_run_event(self, run_id: str, handler: RawHandler) -> Unsubscribe:
        """See `RunLog.on_run_event`."""
        receive = handler
        if log.is_enabled_for(logging.DEBUG):  # else not a step is spent on it: every event passes here
            receive = partial(_trace, run_id, handler)
        unsubscribe = await self._subscriber.subscribe(RUN_CHANNEL_PREFIX + run_id, receive)
        self._count_handler(run_id, 1)
        log.info("📡 subscription set up", run_id=run_id, channel=RUN_CHANNEL_PREFIX + run_id)
        log.info("🔔 handler registered", run_id=run_id, handlers=self.get_stats().handlers)

        async def remove() -> None:
            self._count_handler(run_id, -1)
            await unsubscribe()
            log.info("🔕 handler removed", run_id=run_id, remaining=self.get_stats().handlers)

        return _once(remove)

    async def on_status(self, handler: EventHandler) -> Unsubscribe:
        """See `RunLog.on_status`."""

        def receive(raw: bytes) -> None:
            try:
                event = read_event(raw)
            except ValueError:
                log.warning("❌ something that isn't an event was published", channel=ALL_RUNS_CHANNEL, length=len(raw))
            else:
                handler(event)

        return await self._subscriber.subscribe(ALL_RUNS_CHANNEL, receive)

    def on_batch(self, handler: Callable[[], None]) -> Callable[[], None]:
        """See `RunLog.on_batch`."""
        return self._subscriber.on_batch(handler)

    def on_gap(self, handler: Callable[[], None]) -> Callable[[], None]:
        """See `RunLog.on_gap`."""
        return self._subscriber.on_gap(handler)

    async def send_control(self, message: Mapping[str, Any]) -> None:
        """See `RunLog.send_control`."""
        with redis_errors():
            await self._client.publish(CONTROL_CHANNEL, msgspec.json.encode(message))

    async def on_control(self, handler: Callable[[Mapping[str, Any]], None]) -> Unsubscribe:
        """See `RunLog.on_control`."""

        def receive(raw: bytes) -> None:
            try:
                handler(msgspec.json.decode(raw, type=dict[str, Any]))
            except msgspec.MsgspecError:
                log.warning("❌ something that isn't a control message was published", length=len(raw))

        return await self._subscriber.subscribe(CONTROL_CHANNEL, receive)

    async def ping(self) -> None:
        """See `RunLog.ping`."""
        with redis_errors():
            await self._client.ping()

    def get_stats(self) -> LinkState:
        """See `RunLog.get_stats`."""
        return LinkState(
            channels=len(self._handlers), handlers=self._handler_total, connected=self._subscriber.is_connected
        )

    def _count_handler(self, run_id: str, change: int) -> None:
        self._handler_total += change
        self._handlers[run_id] += change
        if not self._handlers[run_id]:
            del self._handlers[run_id]

    async def _try_append(self, appends: Sequence[tuple[str, Sequence[LoggedEvent]]]) -> list[AppendResult | Exception]:
        # Fast path: every event of every run passes here. `python -m bench.runs deltas` shows what it costs.
        calls = [((stream_of(run_id),), self._append_arguments(run_id, events)) for run_id, events in appends]
        try:
            with redis_errors():
                answers = await self._append.call_each(calls)
        except UnavailableError as error:
            return [error] * len(appends)
        return [
            Appended(events[-1].cursor) if answer == b"appended" else _result_of(answer)
            for (_, events), answer in zip(appends, answers, strict=True)
        ]

    def _trace_append(self, run_id: str, events: Sequence[LoggedEvent], result: AppendResult | Exception) -> None:
        if isinstance(result, Exception):
            self._logger.debug("❌ not published", run_id=run_id, events=len(events), error=str(result))
        else:
            word = type(result).__name__.lower()
            self._logger.debug("📤 published", run_id=run_id, events=len(events), result=word, last=str(result.last))

    def _append_arguments(self, run_id: str, events: Sequence[LoggedEvent]) -> list[Argument]:
        first = events[0].cursor
        channel = RUN_CHANNEL_PREFIX + run_id
        retention = self._retention.seconds, self._max_events, "1" if self._retention.is_due(run_id) else "0"
        arguments: list[Argument] = [channel, ALL_RUNS_CHANNEL, *retention, first.seq]
        if len(events) == 1:
            arguments += (first.attempt, "0" if events[0].status is None else "1", events[0].raw)
            return arguments
        for attempt, stretch in itertools.groupby(events, key=_attempt_of):
            together = list(stretch)
            arguments += (attempt, "".join(["0" if event.status is None else "1" for event in together]))
            arguments += [event.raw for event in together]
        return arguments

    async def _resolve(self, run_id: str, after: Cursor) -> Cursor | None:
        """The place of a plain seq. None if the stream doesn't hold it: the archive may."""
        if after.seq == 0:
            return START
        last = (await self.read_last([run_id]))[0]
        for attempt in range(last.attempt, -1, -1):
            place = Cursor(attempt, after.seq)
            if await self._range(run_id, _id_of(place), _id_of(place), limit=1):
                return place
        return None

    async def _range(self, run_id: str, start: str, end: str, *, limit: int) -> Sequence[Any]:
        """A stream's entries from one id to another, each with its fields."""
        found: Any = await self._client.xrange(stream_of(run_id), min=start, max=end, count=limit)
        return found  # type: ignore[no-any-return] # as redis-py gives it


class _Retention:
    """For how long a run's log is kept, and when that begins anew: not with each append that follows soon upon another,
    for Redis would spend a tenth of its time on that. So a log may go sooner by a hundredth, or by a minute.
    """

    def __init__(self, seconds: int) -> None:
        self.seconds: Final = seconds
        self._round_seconds: Final = min(seconds / 100, _MAX_ROUND_SECONDS)
        self._round_ends_at = float("-inf")
        self._begun: set[str] = set()  # the runs whose time has begun in this round

    def is_due(self, run_id: str) -> bool:
        """Whether the append that is to be sent now shall let it begin. It is taken for sent."""
        now = time.monotonic()
        if now >= self._round_ends_at:
            self._round_ends_at = now + self._round_seconds
            self._begun.clear()
        if run_id in self._begun:
            return False
        self._begun.add(run_id)
        return True


def _result_of(answer: Any) -> AppendResult | Exception:
    """What the script tells of the log's end, or why it tells nothing."""
    if isinstance(answer, Exception):
        return translated(answer)
    word, attempt, seq = answer
    return _RESULTS[word](Cursor(int(attempt), int(seq)))


def last_of(entries: Sequence[Any]) -> Cursor:
    """The place of the newest entry, from an answer to XREVRANGE."""
    return Cursor.parse(entries[0][0].decode()) if entries else START


def _events_of(run_id: str, entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> Sequence[LoggedEvent]:
    """The entries' events, up to the first entry that is none: anybody with access to Redis may add anything."""
    found: list[LoggedEvent] = []
    for entry_id, fields in entries:
        try:
            found.append(read_event(fields[b"e"]))
        except (KeyError, ValueError):
            log.warning("❌ a run's stream holds something that isn't an event", run_id=run_id, entry=entry_id.decode())
            break
    return found


def _trace(run_id: str, handler: RawHandler, raw: bytes) -> None:
    with suppress(ValueError):  # whoever takes it says that it isn't an event
        log.debug("📨 received", run_id=run_id, cursor=str(read_event(raw).cursor))
    handler(raw)


def _attempt_of(event: LoggedEvent) -> int:
    return event.cursor.attempt


def stream_of(run_id: str) -> str:
    """The key of a run's stream."""
    return f"{{run:{run_id}}}:log"


def _id_of(cursor: Cursor) -> str:
    # An id is two unsigned 64-bit numbers; cursors from outside are bounded where they are parsed.
    return f"{min(cursor.attempt, MAX_SEQ)}-{min(cursor.seq, MAX_SEQ)}"


def _once(action: Callable[[], Awaitable[None]]) -> Unsubscribe:
    done = False

    async def perform() -> None:
        nonlocal done
        if not done:
            done = True
            await action()

    return perform
