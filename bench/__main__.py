"""`python -m bench`: measures, says how it goes, and writes tables, plots and raw numbers into bench/results/."""

import argparse
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, TypeVar

from bench.machine import raise_file_limit
from bench.registry import SCENARIOS, SERVERS
from bench.report import write_report
from bench.results import PARTIAL, RESULTS
from bench.scenarios.base import QUICK, THOROUGH
from bench.session import Session

T = TypeVar("T")
INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Do what the command line says; returns the exit code."""
    options = _parse()
    if options.list:
        _list()
        return 0
    for number in _SIGNALS:
        signal.signal(number, _stop)
    is_whole = not (options.servers or options.quick)
    results = options.results or (RESULTS if is_whole else PARTIAL)
    if not options.report:
        raise_file_limit()
        session = Session(
            servers=_pick(SERVERS, options.servers),
            scenarios=_pick(SCENARIOS, options.only),
            repetitions=options.runs,
            effort=QUICK if options.quick else THOROUGH,
            results=results,
            lock=options.lock,
            say=_say,
        )
        try:
            session.run()
        except KeyboardInterrupt:
            _say("stopped; what was through is kept")
            return INTERRUPTED
    _say("\n" + write_report(results))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", metavar="SCENARIO,…", help="these scenarios")
    parser.add_argument("--servers", metavar="NAME,…", help="these servers; the results go to bench/results/partial/")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="repetitions of each  [default: 5]")
    parser.add_argument("--quick", action="store_true", help="short windows: to see that it works, not how fast")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="where to write, instead")
    parser.add_argument("--lock", type=Path, metavar="FILE", help="hold a lock on this file during each measurement")
    parser.add_argument("--report", action="store_true", help="measure nothing, write tables and plots anew")
    parser.add_argument("--list", action="store_true", help="list scenarios and servers")
    return parser.parse_args()


def _pick(known: Mapping[str, T], names: str | None) -> dict[str, T]:
    wanted = names.split(",") if names else list(known)
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"bench: there is no {', '.join(unknown)}; there are {', '.join(known)}")
    return {name: known[name] for name in known if name in wanted}


def _list() -> None:
    for known in (SCENARIOS, SERVERS):
        for name, one in known.items():
            _say(f"{name:<18}{one.title}")
        _say("")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the command's output


def _stop(_number: int, _frame: object) -> NoReturn:
    for number in _SIGNALS:  # all that was started is ended now, whoever is impatient
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
