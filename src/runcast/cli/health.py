"""The command that looks whether all is well, or proves it."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import click

from runcast.cli.exits import EXIT_FAILED
from runcast.cli.serving import new_loop


@click.command()
@click.option("--chaos", is_flag=True, help="The drill: start everything, break it, and check what every watcher saw.")
@click.option("--minutes", type=click.FloatRange(min=0), help="Begin rounds until then; without it one round.")
@click.option("--seed", type=int, help="Repeat the plan of an earlier drill.")
@click.option("--runs", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Runs of a round.")
@click.option("--events", type=click.IntRange(1, 10_000), default=200, show_default=True, help="Events of a run.")
@click.option("--watchers", type=click.IntRange(1, 10_000), default=400, show_default=True, help="Watchers of a round.")
@click.option("--database-url", help="An empty database to use, which is locked at times.  [default: SQLite]")
@click.option("--json", "report", type=click.Path(dir_okay=False), help="Write the result to this file, too.")
def doctor(*, chaos: bool, report: str | None, **options: Any) -> int:
    """Look whether everything is there and fit; with --chaos, prove that nothing gets lost.

    Without --chaos it asks the database and the Redis that the settings name, and changes nothing. With --chaos it
    runs processes of its own in a temporary folder, and touches nothing else. Exit code 1: something is not well.
    """
    if chaos:
        return _drill(report, options)
    from runcast.config import Settings  # noqa: PLC0415
    from runcast.doctor import examine  # noqa: PLC0415

    settings = Settings.load(database_url=options["database_url"])
    findings = asyncio.run(examine(settings, environ=os.environ))
    for finding in findings:
        click.echo(f"  {'✔' if finding.is_well else '✘'} {finding.part:<10}{finding.words}")
    return 0 if all(finding.is_well for finding in findings) else EXIT_FAILED


def _drill(file: str | None, options: dict[str, Any]) -> int:
    import random  # noqa: PLC0415  # as the rest

    from runcast.chaos.drill import DrillOptions, run_drill  # noqa: PLC0415

    seed = options.pop("seed")
    drill = DrillOptions(
        seed=random.randrange(1_000_000) if seed is None else seed,  # noqa: S311  # drawn to be repeated
        lines=options.pop("events"),
        **options,
    )
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        result = runner.run(run_drill(drill, environ=os.environ, say=lambda line: click.echo(line, err=True)))
    click.echo(result.render())
    if file is not None:
        Path(file).write_text(json.dumps(result.to_json(), indent=2, ensure_ascii=False), encoding="utf-8")
    return 0 if result.is_clean else EXIT_FAILED
