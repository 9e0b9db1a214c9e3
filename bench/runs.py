"""The path of a run, measured: what a delta costs the worker, create → first event, no-op runs per second.

    python -m bench.runs [--database postgresql] [--repeat 5] [--json FILE] [SCENARIO …]

Each figure is the median of at least five repetitions with the least and the greatest, taken in one session against a
real `runcast api` and `runcast worker`. No figure counts unless every run is done and its log and archive are whole.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
from websockets.asyncio.client import ClientConnection, connect

from bench.runs_stack import Caller, Cores, Database, Stack, start_stack

REPEAT: Final = 5
_TIMEOUT_SECONDS: Final = 120
_EVENTS_BESIDE_DELTAS: Final = 3  # queued, running, run_completed


class Figure(NamedTuple):
    """One measured quantity over its repetitions."""

    name: str
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return f"{self.name:<56} {self.median:>9.2f} {self.unit:<8} ({low:.2f} to {high:.2f}, n={len(self.values)})"


Way = Literal["text", "events", "silent"]
"""How a runner says a delta: with `message.write`, as an event of its own with `run.emit`, or not."""


class Talk(NamedTuple):
    """How runs talk: `runs` at once, each `deltas` deltas, `burst` at a time with a pause between."""

    runs: int
    deltas: int
    burst: int
    pause_ms: float
    way: Way

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.way}, {self.runs} runs, bursts of {self.burst} every {self.pause_ms:g} ms"


TALKS: Final = tuple(
    Talk(runs=runs, deltas=deltas, burst=burst, pause_ms=pause_ms, way=way)
    for way in ("text", "events")
    for runs, deltas, burst, pause_ms in ((20, 3_000, 100, 100), (20, 1_500, 10, 10), (40, 300, 1, 10))
)
"""Many deltas in bursts; and single tokens, of many runs at once, as language models give them."""


async def measure_deltas(stack: Stack, talk: Talk) -> dict[str, float]:
    """Microseconds of each part's CPU for one delta, less what the same runs cost without their deltas."""
    spoken = await _cpu_of_talk(stack, talk)
    silent = await _cpu_of_talk(stack, talk._replace(way="silent"))
    total = talk.runs * talk.deltas
    return {part: (spoken[part] - silent[part]) / total * 1e6 for part in spoken}


async def measure_first_events(stack: Stack, *, count: int = 100) -> list[float]:
    """Milliseconds from the POST to the `running` of the run on a WebSocket that was open before, one run at a time."""
    caller = await Caller.open(stack.port)
    took = []
    async with connect(f"ws://127.0.0.1:{stack.port}/ws/runs") as socket:
        await socket.recv()  # connected
        for _ in range(count):
            before = stack.endings.count
            begin = time.perf_counter()
            run_id, at = await asyncio.gather(caller.create("noop", {}), _receive_running(socket))
            took.append((at[run_id] - begin) * 1000)
            await stack.endings.wait(before + 1, timeout_seconds=_TIMEOUT_SECONDS)
            await _receive_end(socket, run_id)
    caller.close()
    return took


async def measure_noop_runs(stack: Stack, *, count: int = 2_000, callers: int = 16) -> dict[str, float]:
    """Runs per second from the first POST to the last end, and each part's CPU milliseconds for one."""
    before, used = stack.endings.count, stack.cpu_seconds()
    begin = time.perf_counter()
    run_ids = await _create_all(stack, "noop", {}, count=count, callers=callers)
    await stack.endings.wait(before + count, timeout_seconds=_TIMEOUT_SECONDS)
    elapsed = time.perf_counter() - begin
    per_run: dict[str, float] = {part: (now - used[part]) / count * 1000 for part, now in stack.cpu_seconds().items()}
    await _check(stack, run_ids[:: max(count // 50, 1)])
    return {"runs/s": count / elapsed} | per_run


async def _cpu_of_talk(stack: Stack, talk: Talk) -> Mapping[Any, float]:
    before, used = stack.endings.count, stack.cpu_seconds()
    value = {"deltas": talk.deltas, "burst": talk.burst, "pause_ms": talk.pause_ms, "way": talk.way}
    run_ids = await _create_all(stack, "say", value, count=talk.runs, callers=4)
    await stack.endings.wait(before + talk.runs, timeout_seconds=_TIMEOUT_SECONDS)
    now = stack.cpu_seconds()
    await _check(stack, run_ids, talk)
    return {part: now[part] - used[part] for part in now}


async def _create_all(
    stack: Stack, runner: str, value: Mapping[str, Any], *, count: int, callers: int
) -> Sequence[str]:
    left = iter(range(count))
    run_ids: list[str] = []

    async def call() -> None:
        caller = await Caller.open(stack.port)
        run_ids.extend([await caller.create(runner, value) for _ in left])
        caller.close()

    await asyncio.gather(*(call() for _ in range(callers)))
    return run_ids


async def _receive_running(socket: ClientConnection) -> dict[str, float]:
    """When the next `running` came, by its run."""
    while True:
        frames = str(await socket.recv())
        for frame in map(msgspec.json.decode, frames.splitlines()):
            if frame["payload"].get("status") == "running":
                return {frame["runId"]: time.perf_counter()}


async def _receive_end(socket: ClientConnection, run_id: str) -> None:
    while True:
        frames = str(await socket.recv())
        for frame in map(msgspec.json.decode, frames.splitlines()):
            if frame["type"] == "run_completed" and frame["runId"] == run_id:
                return


async def _check(stack: Stack, run_ids: Sequence[str], talk: Talk | None = None) -> None:
    """Every run is done, and log and archive have every event and delta of it."""
    assert not stack.endings.failed, stack.endings.failed[:3]
    way = talk.way if talk else "silent"
    deltas = talk.deltas if talk and way != "silent" else 0
    caller = await Caller.open(stack.port)
    for run_id in run_ids:
        run = await caller.get(f"/runs/{run_id}")
        assert run["status"] == "done", run
        assert way == "text" or run["lastSeq"] == deltas + _EVENTS_BESIDE_DELTAS, run
        assert await stack.redis.xlen(f"{{run:{run_id}}}:log") == run["lastSeq"]
    await stack.redis.delete(f"{{run:{run_ids[-1]}}}:log")  # so that this one is read from the archive
    for run_id in run_ids[-2:]:
        events = await _read_events(caller, run_id)
        said = [event["payload"]["delta"] for event in events if event["type"] == "message_delta"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1)), f"run {run_id} isn't whole"
        assert events[-1]["type"] == "run_completed", f"run {run_id} hasn't its end"
        assert "".join(said) == " token" * deltas, f"run {run_id} hasn't its text"
    caller.close()


async def _read_events(caller: Caller, run_id: str) -> Sequence[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    page: dict[str, Any] = {"cursor": "0", "final": False}
    while not page["final"]:
        page = await caller.get(f"/runs/{run_id}/events?after={page['cursor']}")
        events += page["events"]
    return events


async def _repeat(measure: Callable[[], Awaitable[dict[str, float]]], *, repeat: int) -> dict[str, tuple[float, ...]]:
    await measure()  # what is only slow the first time
    taken = [await measure() for _ in range(repeat)]
    return {name: tuple(each[name] for each in taken) for name in taken[0]}


async def _delta_figures(stack: Stack, repeat: int) -> list[Figure]:
    figures = []
    for talk in TALKS:
        taken = await _repeat(lambda talk=talk: measure_deltas(stack, talk), repeat=repeat)  # type: ignore[misc]
        figures += [Figure(f"delta, {part}: {talk.name}", "µs CPU", values) for part, values in taken.items()]
    return figures


async def _first_event_figures(stack: Stack, repeat: int) -> list[Figure]:
    async def measure() -> dict[str, float]:
        took = sorted(await measure_first_events(stack))
        return {"p50": statistics.median(took), "p99": took[int(len(took) * 0.99)]}

    taken = await _repeat(measure, repeat=repeat)
    return [Figure(f"create → running at the watcher, {name}", "ms", values) for name, values in taken.items()]


async def _noop_figures(stack: Stack, repeat: int) -> list[Figure]:
    taken = await _repeat(lambda: measure_noop_runs(stack), repeat=repeat)
    rate = Figure("no-op runs, end to end", "runs/s", taken.pop("runs/s"))
    return [rate, *(Figure(f"no-op run, {part}", "ms CPU", values) for part, values in taken.items())]


SCENARIOS: Final[Mapping[str, Callable[[Stack, int], Awaitable[list[Figure]]]]] = {
    "deltas": _delta_figures,
    "first-event": _first_event_figures,
    "noop": _noop_figures,
}


async def measure(
    scenarios: Sequence[str], *, database: Database = "sqlite", repeat: int = REPEAT, cores: Cores | None = None
) -> list[Figure]:
    """The figures of the scenarios, each on a stack of its own."""
    cores = cores or Cores.of_machine()
    figures: list[Figure] = []
    for name in scenarios:
        async with start_stack(database=database, cores=cores) as stack:
            figures += await SCENARIOS[name](stack, repeat)
    return figures


def main() -> None:
    """Measure and print; the raw numbers into a file, if one is named."""
    parser = argparse.ArgumentParser(prog="python -m bench.runs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--repeat", type=int, default=REPEAT)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := set(options.scenarios) - set(SCENARIOS):
        parser.error(f"no scenario {', '.join(sorted(unknown))}: choose from {', '.join(SCENARIOS)}")
    cores = Cores.of_machine()
    print(f"{options.database}; {cores}", flush=True)  # noqa: T201 - its result
    figures = asyncio.run(
        measure(options.scenarios or list(SCENARIOS), database=options.database, repeat=options.repeat, cores=cores)
    )
    for figure in figures:
        print(figure)  # noqa: T201 - as above
    if options.json:
        options.json.write_bytes(msgspec.json.encode([figure._asdict() for figure in figures]))


if __name__ == "__main__":
    main()
