"""One session: scenario by scenario, the servers in turn (A B C A B C …): what changes meanwhile touches them all."""

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Final

import redis

from bench.errors import UnavailableError, VoidError
from bench.load import build
from bench.machine import Cores, describe_machine
from bench.redis_server import describe_redis, start_redis
from bench.results import ScenarioResult, ServerResult
from bench.scenarios.base import Effort, Figures, Scenario
from bench.servers.base import Lab, Server

MAX_OTHERS_SHARE: Final = 0.1
"""Of a core. Where the machine did more besides, what was measured isn't the server."""
_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is measured and how."""

    servers: Mapping[str, Server]
    scenarios: Mapping[str, Scenario]
    repetitions: int
    effort: Effort
    results: Path
    lock: Path | None
    """A file that is locked during each measurement, for those who share the machine."""
    say: Callable[[str], None]

    def run(self) -> None:
        """Measure everything; a scenario's results are kept as soon as it is through."""
        cores = Cores.choose()
        build("load")
        versions, unavailable = self._install()
        machine = {**describe_machine(cores), "redis": describe_redis()}
        for scenario in self.scenarios.values():
            result = ScenarioResult(
                scenario=scenario.name,
                measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
                machine=machine,
                versions=versions,
                unavailable=unavailable,
                repetitions=self.repetitions,
                seconds=self.effort.seconds,
            )
            self._measure_scenario(scenario, result, cores)
            result.save(self.results)

    def _install(self) -> tuple[dict[str, str], dict[str, str]]:
        versions, unavailable = {}, {}
        for name, server in self.servers.items():
            try:
                versions[name] = server.install()
                self.say(f"{name}: {versions[name]}")
            except UnavailableError as error:
                unavailable[name] = str(error)
                self.say(f"{name}: not here: {error}")
        return versions, unavailable

    def _measure_scenario(self, scenario: Scenario, result: ScenarioResult, cores: Cores) -> None:
        self.say(f"\n{scenario.title}")
        begun = time.monotonic()
        repetitions = min(self.repetitions, scenario.max_repetitions or self.repetitions)
        fitting = [
            server for name, server in self.servers.items() if name in result.versions and scenario.suits(server)
        ]
        for repetition in range(1, repetitions + 1):
            for server in fitting:
                kept = result.servers.setdefault(server.name, ServerResult())
                place = f"  {repetition}/{repetitions} {server.name:<17}"
                try:
                    figures = self._measure(scenario, server, cores)
                except (VoidError, OSError, HTTPException, redis.RedisError) as error:
                    kept.void.append(f"{error}" or type(error).__name__)
                    self.say(f"{place}VOID: {kept.void[-1]}")
                else:
                    kept.figures.append(figures)
                    self.say(place + _show(scenario, figures))
        self.say(f"  took {(time.monotonic() - begun) / 60:.1f} min")

    def _measure(self, scenario: Scenario, server: Server, cores: Cores) -> Figures:
        """Again if the machine did something else meanwhile; of the tries the quietest counts, and says how quiet."""
        tries: list[Figures] = []
        while len(tries) < _TRIES:
            with locked(self.lock), start_redis(core=cores.redis) as redis_server:
                tries.append(scenario.measure(server, Lab(redis_server, cores), self.effort))
            if _share_of_others(tries[-1]) < MAX_OTHERS_SHARE:
                break
            self.say("  the machine is doing something else")
        return min(tries, key=_share_of_others)


def _share_of_others(figures: Figures) -> float:
    return max((value for name, value in figures.items() if name.startswith("others_")), default=0)


@contextmanager
def locked(path: Path | None) -> Iterator[None]:
    """Hold an exclusive lock (as flock(1) takes it) on a file, if there is one."""
    if path is None:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _show(scenario: Scenario, figures: Figures) -> str:
    shown = ((column.heading, column.render(figures.get(column.figure))) for column in scenario.columns)
    return " · ".join(f"{heading} {value}" for heading, value in shown)
