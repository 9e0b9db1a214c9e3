"""The command `runcast`: runs the parts, and is a client of a server that runs.

What a command needs is imported when it is called, so that `runcast --help` answers at once. Standard output carries
results, standard error logs and errors. Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration, 130 Ctrl-C.
"""

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from runcast import __version__

if TYPE_CHECKING:
    from runcast.app import Runcast
    from runcast.client import RuncastClient
    from runcast.config import Settings

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_WARNED: Final = "_RUNCAST_WARNED"
_COLLECT_AFTER: Final = 20_000  # new objects that the garbage collector lets pass

Command = Callable[..., Any]


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command and exit. Every error is one line on stderr."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without ✔ still gets the rest
    try:
        result = cli.main(arguments, prog_name="runcast", standalone_mode=False)
    except click.ClickException as error:
        _fail(error.format_message(), EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # `runcast watch … | head`: whoever read has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(EXIT_FAILED)
    except Exception as error:  # noqa: BLE001  # what isn't ours is raised again there
        _fail_with(error)
    sys.exit(result if isinstance(result, int) else 0)


def _fail_with(error: Exception) -> NoReturn:
    from runcast.errors import ConfigurationError, InvalidInputError, RuncastError  # noqa: PLC0415  # kept off --help
    from runcast.stack import PartFailedError  # noqa: PLC0415

    if isinstance(error, PartFailedError):
        sys.exit(error.exit_code if error.exit_code > 0 else EXIT_FAILED)  # the part has said why
    if isinstance(error, ConfigurationError | InvalidInputError):
        _fail(str(error), EXIT_USAGE)
    if isinstance(error, RuncastError):
        _fail(str(error), EXIT_FAILED)
    raise error


def _fail(message: str, code: int) -> NoReturn:
    print(f"runcast: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(__version__, message="runcast %(version)s")
def cli() -> None:
    """Run jobs and watch them live."""


def logging_options(command: Command) -> Command:
    """Add the options of every long-running command."""
    levels, formats = click.Choice(["debug", "info", "warning", "error"]), click.Choice(["auto", "text", "json"])
    command = click.option("--log-level", type=levels, help="Least level logged.  [default: info]")(command)
    return click.option("--log-format", type=formats, help="text, json, or auto: text on a terminal, else json.")(
        command
    )


def serving_options(command: Command) -> Command:
    """Add the options of whatever listens."""
    command = click.option("--web-port", type=int, help="A second port for the same; 0: none.  [default: 5173]")(
        command
    )
    command = click.option("--port", type=int, help="Port of API and console; 0: a free one.  [default: 3000]")(command)
    return click.option("--host", help="Address to listen on; another than loopback needs RUNCAST_API_KEY.")(command)


@cli.command()
@click.argument("app", required=False)
@serving_options
@click.option("--data-dir", type=click.Path(file_okay=False), help="Where data is kept.  [default: .runcast]")
@click.option("--workers", type=int, help="Worker processes.  [default: 1]")
@click.option("--gateways", type=int, help="Gateway processes on the one port.  [default: 1]")
@click.option(
    "--reload/--no-reload",
    "is_reloaded",
    default=None,
    help="Run new code when the application's files change.  [default: if APP is a file]",
)
@logging_options
def up(app: str | None, *, is_reloaded: bool | None, **options: Any) -> None:
    """Run everything: Redis, database, API, console, workers.

    APP is your application: path/to/file.py, file.py:name or module:name. Without it there is the prompt runner.
    """
    from runcast import stack  # noqa: PLC0415
    from runcast.loading import is_file  # noqa: PLC0415

    if is_reloaded and app is None:
        raise click.UsageError("--reload needs an APP: it is its code that is watched")
    if is_reloaded is None:
        is_reloaded = app is not None and is_file(app)
    stack.up(_configure(options), app=app, announce=_announce, is_reloaded=is_reloaded)


def ready_option(command: Command) -> Command:
    """Add the option of whatever a supervisor waits for."""
    number = click.IntRange(min=3)
    return click.option("--ready-fd", type=number, help="Write a newline to this descriptor once all is ready.")(
        command
    )


@cli.command()
@click.argument("app", required=False)
@serving_options
@ready_option
@logging_options
def api(app: str | None, *, ready_fd: int | None, **options: Any) -> None:
    """Run the API, the gateway and the console alone: one process.

    With RUNCAST_GATEWAYS above 1 it shares its ports with others that do, so that several can be started.
    """
    from runcast.preflight import require_free_ports, with_free_port  # noqa: PLC0415

    settings = with_free_port(_configure(options))
    settings.require_key_if_exposed()
    require_free_ports(settings, is_shared=settings.gateways > 1)
    _require_redis(settings, "api")
    on_ready = _ready_signal(ready_fd)
    from runcast.assembly import serve_api  # noqa: PLC0415

    _serve(serve_api(settings, _load_app(app), on_ready=on_ready))


@cli.command()
@click.argument("app", required=False)
@ready_option
@logging_options
def worker(app: str | None, *, ready_fd: int | None, **options: Any) -> None:
    """Run one worker alone.

    After SIGUSR1 it takes no more runs, finishes those it has, and ends.
    """
    settings = _configure(options)
    _require_redis(settings, "worker")
    on_ready = _ready_signal(ready_fd)
    from runcast.assembly import serve_worker  # noqa: PLC0415

    retire = asyncio.Event()
    _serve(serve_worker(settings, _load_app(app), on_ready=on_ready, retire=retire), on_retire=retire.set)


@cli.command()
@logging_options
def migrate(**options: Any) -> None:
    """Bring the database's tables up to date."""
    settings = _configure(options)
    from runcast.backends.sql import migrate as migrate_database  # noqa: PLC0415  # the assembly knows far more

    asyncio.run(migrate_database(settings.database))


@cli.command()
@click.argument("app")
def check(app: str) -> None:
    """Load an application and list its runners."""
    for runner in _load_app(app).runners.values():
        click.echo(f"{runner.name}  {runner.description}".rstrip(), err=True)


@cli.command()
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


@cli.command()
@click.argument("run_id")
@click.option("--after", metavar="CURSOR", help="Begin after this event: <attempt>-<seq> or a plain seq.")
@click.option("--json", "is_json", is_flag=True, help="One JSON event per line.")
def watch(run_id: str, after: str | None, *, is_json: bool) -> int:
    """Follow a run to its end; Ctrl-C stops watching, never the run."""
    return _with_client(lambda client: _watch(client, run_id, after, is_json))


@cli.command()
@click.argument("run_id")
@click.option("--approve/--reject", "is_approved", default=None, help="The answer to what is to be approved.")
@click.option("--value", "value_json", metavar="JSON", help="The answer to anything else.")
@click.option("--request", "request_id", metavar="ID", help="Which request; the only open one unless told.")
@click.option("--by", metavar="NAME", help="Who answers.")
def answer(run_id: str, *, is_approved: bool | None, value_json: str | None, **options: str | None) -> int:
    """Answer what a run asks."""
    if (is_approved is None) == (value_json is None):
        raise click.UsageError("give --approve, --reject or --value JSON")
    value = {"approved": is_approved} if value_json is None else _read_json(value_json, "--value")

    async def ask(client: "RuncastClient") -> int:
        await client.answer_run(run_id, value, **options)
        return 0

    return _with_client(ask)


@cli.command()
@click.argument("run_id")
def cancel(run_id: str) -> int:
    """Stop a run, and the runs that it has started."""

    async def ask(client: "RuncastClient") -> int:
        await client.cancel_run(run_id)
        return 0

    return _with_client(ask)


@cli.command()
@click.argument("run_id")
def undo(run_id: str) -> int:
    """Undo the steps of an ended run, the last first, in a run of its own."""

    async def ask(client: "RuncastClient") -> int:
        created = await client.undo_run(run_id)
        click.echo(f"{created.run_id}  {client.url}/runs/{created.run_id}")
        return 0

    return _with_client(ask)


@cli.command()
def stats() -> None:
    """Show the stats of a running server, as JSON."""

    async def show(client: "RuncastClient") -> int:
        click.echo(json.dumps(await client.get_stats(), indent=2, ensure_ascii=False))
        return 0

    _with_client(show)


@cli.command()
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
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        result = runner.run(run_drill(drill, environ=os.environ, say=lambda line: click.echo(line, err=True)))
    click.echo(result.render())
    if file is not None:
        Path(file).write_text(json.dumps(result.to_json(), indent=2, ensure_ascii=False), encoding="utf-8")
    return 0 if result.is_clean else EXIT_FAILED


def _configure(options: dict[str, Any]) -> "Settings":
    from runcast.config import Settings  # noqa: PLC0415
    from runcast.observe.logging import configure_logging  # noqa: PLC0415

    settings = Settings.load(**options)
    configure_logging(level=settings.log_level, format=settings.log_format)
    _warn_of_mistyped(Settings.find_mistyped(os.environ))
    return settings


def _warn_of_mistyped(sentences: Iterable[str]) -> None:
    import structlog  # noqa: PLC0415  # as the rest

    if _WARNED in os.environ:
        return
    for sentence in sentences:
        structlog.get_logger().warning(f"❌ {sentence}")
    os.environ[_WARNED] = "1"  # the parts that `up` starts inherit it: they needn't say it again


def _ready_signal(number: int | None) -> Callable[[], None]:
    from runcast.readiness import ReadyDescriptor  # noqa: PLC0415

    if number is None:
        return lambda: None
    try:
        return ReadyDescriptor(number).give
    except OSError as error:
        raise click.UsageError(f"--ready-fd {number}: {error.strerror}") from None


def _load_app(reference: str | None) -> "Runcast":
    from runcast.app import Runcast  # noqa: PLC0415
    from runcast.loading import load_app  # noqa: PLC0415

    return load_app(reference) if reference else Runcast()


def _require_redis(settings: "Settings", part: str) -> None:
    from runcast.errors import ConfigurationError  # noqa: PLC0415

    if not settings.redis_url:
        raise ConfigurationError(f"`runcast {part}` needs REDIS_URL; `runcast up` brings its own Redis")


def _serve(part: Coroutine[Any, Any, None], *, on_retire: Callable[[], None] | None = None) -> None:
    """Run a part until SIGTERM or Ctrl-C; a second signal ends it at once. SIGUSR1 tells it to come to its end."""
    _spare_collections()
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        runner.run(_until_signal(part, on_retire))


def _spare_collections() -> None:
    """Let the garbage collector look less often, and never at what was imported.

    A part makes few cycles, but with ten thousand connections every full collection would hold it up for tens of
    milliseconds, and by default a storm of connects causes one after the other.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, 20, 20)


async def _until_signal(part: Coroutine[Any, Any, None], on_retire: Callable[[], None] | None) -> None:
    serving = asyncio.ensure_future(part)
    signals = 0

    def receive_signal() -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(EXIT_INTERRUPTED)
        serving.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, receive_signal)
    if on_retire is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, on_retire)
    try:
        await serving
    except asyncio.CancelledError:
        if not signals:
            raise


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415  # not there on every platform
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def _announce(settings: "Settings") -> None:
    from runcast.stack import api_url, console_url  # noqa: PLC0415

    api = api_url(settings)
    places = {
        "Console": console_url(settings),
        "API": api,
        "Stats": f"{api}/runs/stats",
        "Docs": f"{api}/docs",
        "Data": str(settings.data_dir.resolve()),
    }
    lines = [f"  {name:<10}{click.style(place, fg='cyan')}" for name, place in places.items()]
    title = click.style(f"Runcast {__version__} is up", bold=True)
    click.echo("\n".join(["", f"  {title}", "", *lines, "", "  Ctrl-C stops it.", ""]))  # colours only on a terminal


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
    from runcast.errors import UnavailableError  # noqa: PLC0415

    settings = Settings.load()
    key = settings.api_key.get_secret_value() if settings.api_key else None

    async def with_client() -> int:
        async with RuncastClient(settings.url, api_key=key) as client:
            try:
                return await use(client)
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


async def _watch(client: "RuncastClient", run_id: str, after: str | None, is_json: bool) -> int:  # noqa: FBT001
    from runcast.events import RunEvent, RunStatus, encode_event  # noqa: PLC0415
    from runcast.transcript import Transcript  # noqa: PLC0415

    transcript = Transcript(is_coloured=sys.stdout.isatty())
    async for event in client.watch(run_id, after=after, control=True):
        text = transcript.render(event)
        if is_json:
            text = encode_event(event).decode() + "\n" if isinstance(event, RunEvent) else ""
        sys.stdout.write(text)
        sys.stdout.flush()
    # Nothing came if the cursor stands at the end already: how the run ended is asked for then.
    ended_as = transcript.ended_as or (await client.get_run(run_id)).status
    return 0 if ended_as == RunStatus.DONE else EXIT_FAILED
