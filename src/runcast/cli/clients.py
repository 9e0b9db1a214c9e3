"""The commands that ask a server that runs."""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from runcast.cli.exits import EXIT_FAILED

if TYPE_CHECKING:
    from runcast.client import RuncastClient


@click.command()
@click.argument("prompt", required=False)
@click.option("--runner", help="Run this runner instead of a prompt.")
@click.option("--input", "input_json", metavar="JSON", help="The runner's input, an object.")
@click.option("--tag", "tags", multiple=True, help="A tag for the run; may be repeated.")
@click.option("--delay", "delay_seconds", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait first.")
@click.option("--priority", type=click.IntRange(0, 100), default=0, show_default=True, help="The higher the sooner.")
@click.option("--mode", type=click.Choice(["auto", "approval", "preview"]), help="Of a prompt's plan.")
@click.option("--watch", "is_watched", is_flag=True, help="Follow the run to its end.")
@click.option("--json", "is_json", is_flag=True, help="With --watch: one JSON event per line.")
def run(prompt: str | None, runner: str | None, input_json: str | None, **options: Any) -> int:
    """Ask a running server for a run."""
    if (prompt is None) == (runner is None):
        raise click.UsageError("give either a PROMPT or --runner NAME")
    if input_json is not None and runner is None:
        raise click.UsageError("--input belongs to --runner")
    value = _read_object(input_json) if input_json is not None else None
    is_watched, is_json = options.pop("is_watched"), options.pop("is_json")

    async def ask(client: "RuncastClient") -> int:
        created = await client.create_run(prompt=prompt, runner=runner, input=value, **options)
        # With --json standard output is for events only.
        click.echo(f"{created.run_id}  {client.url}/runs/{created.run_id}", err=is_json)
        return await _watch(client, created.run_id, None, is_json) if is_watched else 0

    return _with_client(ask)


@click.command()
@click.argument("run_id")
@click.option("--after", metavar="CURSOR", help="Begin after this event: <attempt>-<seq> or a plain seq.")
@click.option("--json", "is_json", is_flag=True, help="One JSON event per line.")
def watch(run_id: str, after: str | None, *, is_json: bool) -> int:
    """Follow a run to its end; Ctrl-C stops watching, never the run."""
    return _with_client(lambda client: _watch(client, run_id, after, is_json))


@click.command()
@click.argument("run_id")
@click.option("--approve", "is_approved", is_flag=True, help="Yes to what is to be approved.")
@click.option("--reject", "is_rejected", is_flag=True, help="No to it.")
@click.option("--value", "value_json", metavar="JSON", help="The answer to anything else.")
@click.option("--request", "request_id", metavar="ID", help="Which request; the only open one unless told.")
@click.option("--by", metavar="NAME", help="Who answers.")
def answer(run_id: str, *, is_approved: bool, is_rejected: bool, value_json: str | None, **options: str | None) -> int:
    """Answer what a run asks."""
    if [is_approved, is_rejected, value_json is not None].count(True) != 1:
        raise click.UsageError("give --approve, --reject or --value JSON, one of them")
    value = {"approved": is_approved} if value_json is None else _read_json(value_json, "--value")

    async def ask(client: "RuncastClient") -> int:
        if value_json is None:
            await _check_approval(client, run_id, options["request_id"])
        await client.answer_run(run_id, value, **options)
        return 0

    return _with_client(ask)


@click.command()
@click.option("--status", help="Only those that are so: running, awaiting_approval, failed, …")
@click.option("--tag", help="Only those with this tag.")
@click.option("--limit", type=click.IntRange(1, 200), default=20, show_default=True, help="At most so many.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object per line.")
def runs(*, is_json: bool, **where: Any) -> int:
    """List runs, the newest first: id, status, runner, age, and what was asked for."""

    async def show(client: "RuncastClient") -> int:
        from runcast.transcript import encode_listed, render_listed  # noqa: PLC0415

        page = await client.list_runs(**where)
        now = datetime.now(UTC)
        for each in page.runs:
            click.echo(encode_listed(each) if is_json else render_listed(each, now=now))
        return 0

    return _with_client(show)


@click.command()
@click.argument("run_id")
def cancel(run_id: str) -> int:
    """Stop a run, and the runs that it has started."""

    async def ask(client: "RuncastClient") -> int:
        await client.cancel_run(run_id)
        return 0

    return _with_client(ask)


@click.command()
@click.argument("run_id")
def undo(run_id: str) -> int:
    """Undo the steps of an ended run, the last first, in a run of its own."""

    async def ask(client: "RuncastClient") -> int:
        created = await client.undo_run(run_id)
        click.echo(f"{created.run_id}  {client.url}/runs/{created.run_id}")
        return 0

    return _with_client(ask)


@click.command()
def stats() -> None:
    """Show the stats of a running server, as JSON."""

    async def show(client: "RuncastClient") -> int:
        click.echo(json.dumps(await client.get_stats(), indent=2, ensure_ascii=False))
        return 0

    _with_client(show)


def _read_object(text: str) -> dict[str, Any]:
    value = _read_json(text, "--input")
    if not isinstance(value, dict):
        raise click.UsageError("--input must be a JSON object")
    return value


def _read_json(text: str, option: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{option} is not JSON: {error}") from None


def _with_client(use: Callable[["RuncastClient"], Coroutine[Any, Any, int]]) -> int:
    from runcast.client import RuncastClient  # noqa: PLC0415
    from runcast.config import Settings  # noqa: PLC0415
    from runcast.errors import UnauthorizedError, UnavailableError  # noqa: PLC0415

    settings = Settings.load()
    key = settings.api_key.get_secret_value() if settings.api_key else None

    async def with_client() -> int:
        async with RuncastClient(settings.url, api_key=key, headers=settings.client_headers) as client:
            try:
                return await use(client)
            except UnauthorizedError as error:
                hint = "what this command sends is in RUNCAST_API_KEY and RUNCAST_HEADERS"
                raise UnauthorizedError(f"{error}; {hint}") from error
            except UnavailableError as error:
                hint = "start a server with `runcast up`, or set RUNCAST_URL to where one runs"
                raise UnavailableError(f"{error}; {hint}") from error

    result = asyncio.run(_until_interrupted(with_client()))
    if result is None:
        raise KeyboardInterrupt
    return result


async def _until_interrupted(work: Coroutine[Any, Any, int]) -> int | None:
    """The work's result; None if Ctrl-C came first. One cancellation isn't always enough: a library may swallow it."""
    from runcast.concurrency import end_tasks  # noqa: PLC0415

    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(interrupted.wait())
    await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    await end_tasks(waiting, *([] if working.done() else [working]))
    return None if working.cancelled() else working.result()


async def _check_approval(client: "RuncastClient", run_id: str, request_id: str | None) -> None:
    """Tell somebody who approves or rejects that data are asked for; whatever else is wrong the server says better."""
    from runcast.errors import InvalidInputError  # noqa: PLC0415
    from runcast.events import RequestKind  # noqa: PLC0415

    asked = [each for each in (await client.get_run(run_id)).requests if each.answer is None and not each.resolved]
    meant = [each for each in asked if request_id in {None, each.request_id}]
    if len(meant) == 1 and meant[0].kind != RequestKind.APPROVAL:
        raise InvalidInputError(f"{meant[0].request_id} asks for data, not for an approval: answer with --value JSON")


async def _watch(client: "RuncastClient", run_id: str, after: str | None, is_json: bool) -> int:  # noqa: FBT001
    from runcast.events import START, Cursor, RunEvent, RunStatus, encode_event  # noqa: PLC0415
    from runcast.transcript import Transcript  # noqa: PLC0415

    transcript = Transcript(is_coloured=sys.stdout.isatty())
    if after is not None and Cursor.parse(after) != START and not is_json:
        # Steps may have begun before: only their ids come with what is told of them later.
        steps = (await client.get_run(run_id)).steps
        transcript.name_steps({step.step_id: step.name for step in steps})
    async for event in client.watch(run_id, after=after, control=True):
        text = transcript.render(event)
        if is_json:
            text = encode_event(event).decode() + "\n" if isinstance(event, RunEvent) else ""
        sys.stdout.write(text)
        sys.stdout.flush()
    # Nothing came if the cursor stands at the end already: how the run ended is asked for then.
    ended_as = transcript.ended_as or (await client.get_run(run_id)).status
    return 0 if ended_as == RunStatus.DONE else EXIT_FAILED
