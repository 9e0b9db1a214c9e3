"""`python -m bench`: measure, print as it goes, and write tables, plots and raw numbers into bench/results/."""

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

from bench.errors import UnavailableError, VoidError
from bench.machine import Cores, describe_machine, raise_file_limit
from bench.redis_server import start_redis
from bench.registry import SCENARIOS, SERVERS
from bench.scenarios.base import QUICK, THOROUGH
from bench.servers.base import Lab

T = TypeVar("T")


def main() -> int:
    options = parse()
    servers, scenarios = pick(SERVERS, options.servers), pick(SCENARIOS, options.only)
    raise_file_limit()
    cores = Cores.choose()
    effort = QUICK if options.quick else THOROUGH
    print(describe_machine(cores))
    installed = {}
    for name, server in servers.items():
        try:
            print(f"{name}: {server.install()}")
            installed[name] = server
        except UnavailableError as error:
            print(f"{name}: not here: {error}")
    for scenario in scenarios.values():
        for repetition in range(options.runs):
            for name, server in installed.items():
                try:
                    with start_redis(core=cores.redis) as redis:
                        figures = scenario.measure(server, Lab(redis, cores), effort)
                except VoidError as error:
                    print(f"{scenario.name} {repetition + 1} {name:12} VOID {error}", flush=True)
                    continue
                shown = "  ".join(f"{c.heading} {figures[c.figure] / c.unit:.{c.digits}f}" for c in scenario.columns)
                print(f"{scenario.name} {repetition + 1} {name:12} {shown}", flush=True)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", help="scenarios, separated by commas")
    parser.add_argument("--servers", help="servers, separated by commas")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def pick(known: Mapping[str, T], names: str | None) -> dict[str, T]:
    return {name: known[name] for name in names.split(",")} if names else dict(known)


if __name__ == "__main__":
    sys.exit(main())
