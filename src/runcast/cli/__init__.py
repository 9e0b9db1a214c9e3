"""The command `runcast`: runs the parts, and is a client of a server that runs.

What a command needs is imported when it is called, so that `runcast --help` answers at once. Standard output carries
results, standard error logs and errors. Exit codes: 0 done, 1 it failed, 2 wrong usage or configuration, 130 Ctrl-C.
"""

import os
import sys
from typing import NoReturn

import click

from runcast import __version__
from runcast.cli.clients import answer, cancel, run, runs, stats, undo, watch
from runcast.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE
from runcast.cli.health import doctor
from runcast.cli.parts import api, check, migrate, up, worker


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


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(__version__, message="runcast %(version)s")
def cli() -> None:
    """Run jobs and watch them live."""


for _command in (up, api, worker, migrate, check, run, runs, watch, answer, cancel, undo, stats, doctor):
    cli.add_command(_command)


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
