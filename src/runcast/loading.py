"""Finds the application that a command line names, and says where it is broken if it is.

The reference is `path/to/file.py`, `path/to/file.py:attribute` or `module:attribute`; the attribute is `app` unless
told.
"""

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runcast.errors import ConfigurationError, RuncastError

if TYPE_CHECKING:
    from runcast.registry import RunnerRegistry

_FOREIGN: Final = frozenset({"site-packages", "dist-packages"})


def load_app(reference: str) -> "RunnerRegistry":
    """The application that a reference names.

    Raises:
        ConfigurationError: it can't be imported or isn't a `Runcast`; the message names file and line.

    """
    place, _, attribute = reference.partition(":")
    module = _load_file(Path(place)) if is_file(reference) else _load_module(place)
    return _find_app(module, reference, attribute or "app")


def is_file(reference: str) -> bool:
    """Whether a reference names a file, and not a module."""
    return reference.partition(":")[0].endswith(".py")


def folder_of(reference: str) -> Path:
    """The folder that the application's own code is in."""
    return Path(reference.partition(":")[0]).resolve().parent if is_file(reference) else Path.cwd()


def _find_app(module: object, reference: str, attribute: str) -> "RunnerRegistry":
    from runcast.registry import RunnerRegistry  # noqa: PLC0415  # `up` only asks where the code is, and loads none

    app = getattr(module, attribute, None)
    if isinstance(app, RunnerRegistry):
        return app
    if app is not None:
        raise ConfigurationError(f"{reference}: {attribute} is not a Runcast application")
    place = reference.partition(":")[0]
    others = sorted(name for name, value in vars(module).items() if isinstance(value, RunnerRegistry))
    if others:
        raise ConfigurationError(f"{place}: there is no {attribute!r}; did you mean {place}:{others[0]}?")
    raise ConfigurationError(f"{place}: there is no {attribute!r}: write `{attribute} = Runcast()` in it")


def _load_file(path: Path) -> object:
    if not path.is_file():
        raise ConfigurationError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # pickling and type hints look modules up there
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(_describe(error, str(path), path.resolve().parent)) from error
    return module


def _load_module(name: str) -> object:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigurationError(
                f"there is no module {error.name!r} in {Path.cwd()} or where Python looks;"
                " a file is named by its path: path/to/file.py"
            ) from error
        raise ConfigurationError(_describe(error, name, Path.cwd())) from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(_describe(error, name, Path.cwd())) from error


def _describe(error: BaseException, reference: str, folder: Path) -> str:
    """What is wrong, in one line that begins with the place in the application's own code."""
    if isinstance(error, SyntaxError) and error.filename:
        words = f"SyntaxError: {error.msg}" + (f": {error.text.strip()}" if error.text else "")
        return f"{_shown(Path(error.filename))}:{error.lineno}: {words}"
    words = str(error) if isinstance(error, RuncastError) else f"{type(error).__name__}: {error}".removesuffix(": ")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_within(Path(frame.filename), folder)]
    return f"{_shown(Path(own[-1].filename))}:{own[-1].lineno}: {words}" if own else f"{reference}: {words}"


def _is_within(path: Path, folder: Path) -> bool:
    # A virtual environment may lie in the folder; what is installed there isn't the author's code.
    return path.is_absolute() and path.resolve().is_relative_to(folder) and not _FOREIGN & set(path.parts)


def _shown(path: Path) -> str:
    """As it is named from here, if it is below."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
