"""The commands that run something: everything, or one part alone."""

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

import click

from runcast import __version__
from runcast.cli.serving import serve

if TYPE_CHECKING:
    from runcast.config import Settings
    from runcast.registry import RunnerRegistry

_WARNED: Final = "_RUNCAST_WARNED"

Command = Callable[..., Any]


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


def ready_option(command: Command) -> Command:
    """Add the option of whatever a supervisor waits for."""
    number = click.IntRange(min=3)
    return click.option("--ready-fd", type=number, help="Write a newline to this descriptor once all is ready.")(
        command
    )


@click.command()
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


@click.command()
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

    serve(serve_api(settings, _load_app(app), on_ready=on_ready))


@click.command()
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
    serve(serve_worker(settings, _load_app(app), on_ready=on_ready, retire=retire), on_retire=retire.set)


@click.command()
@logging_options
def migrate(**options: Any) -> None:
    """Bring the database's tables up to date."""
    settings = _configure(options)
    from runcast.backends.sql import migrate as migrate_database  # noqa: PLC0415  # the assembly knows far more

    asyncio.run(migrate_database(settings.database))


@click.command()
@click.argument("app")
def check(app: str) -> None:
    """Load an application and list its runners."""
    for runner in _load_app(app).runners.values():
        click.echo(f"{runner.name}  {runner.description}".rstrip(), err=True)


def _configure(options: dict[str, Any]) -> "Settings":
    from runcast.config import Settings  # noqa: PLC0415
    from runcast.observe.logging import configure_logging  # noqa: PLC0415

    settings = Settings.load(**options)
    configure_logging(level=settings.log_level, format=settings.log_format)
    _warn_of_mistyped(Settings.find_mistyped(os.environ))
    return settings


def _warn_of_mistyped(sentences: Iterable[str]) -> None:
    from runcast.logs import get_logger  # noqa: PLC0415  # as the rest

    if _WARNED in os.environ:
        return
    for sentence in sentences:
        get_logger().warning(f"❌ {sentence}")
    os.environ[_WARNED] = "1"  # the parts that `up` starts inherit it: they needn't say it again


def _ready_signal(number: int | None) -> Callable[[], None]:
    from runcast.readiness import ReadyDescriptor  # noqa: PLC0415

    if number is None:
        return lambda: None
    try:
        return ReadyDescriptor(number).give
    except OSError as error:
        raise click.UsageError(f"--ready-fd {number}: {error.strerror}") from None


def _load_app(reference: str | None) -> "RunnerRegistry":
    from runcast.loading import load_app  # noqa: PLC0415
    from runcast.registry import RunnerRegistry  # noqa: PLC0415

    return load_app(reference) if reference else RunnerRegistry()


def _require_redis(settings: "Settings", part: str) -> None:
    from runcast.errors import ConfigurationError  # noqa: PLC0415

    if not settings.redis_url:
        raise ConfigurationError(f"`runcast {part}` needs REDIS_URL; `runcast up` brings its own Redis")


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
