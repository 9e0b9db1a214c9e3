"""What is shipped: the locks, the command line's set-up, the containers."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import runcast

ROOT = Path(__file__).parent.parent
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

DISTRIBUTION_OF = {"pydantic_settings": "pydantic-settings", "pydantic_ai": "pydantic-ai-slim"}
ASKS_FOR_US = {"pytest"}  # what loads a module of ours where it is installed itself
COMES_WITH = {
    "starlette": "fastapi",
    "pydantic_core": "pydantic",
    "openai": "pydantic-ai-slim",
    "anthropic": "pydantic-ai-slim",
    "httpx2": "mcp",
}  # their own bases, in whatever version they need


def distribution(requirement: str) -> str:
    return re.split(r"[\[<>=;! ]", requirement, maxsplit=1)[0].lower()


def locked(name: str) -> dict[str, str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;]+)", text, re.MULTILINE))


def third_party_imports() -> set[str]:
    modules = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.split(".")[0])
    return modules - sys.stdlib_module_names - {"runcast"}


def test_all_that_is_imported_is_declared() -> None:
    """`pip install runcast` brings everything that Runcast imports."""
    extras = PROJECT["project"]["optional-dependencies"].values()
    declared = {
        distribution(requirement)
        for requirements in (PROJECT["project"]["dependencies"], *extras)
        for requirement in requirements
    }
    imported = {DISTRIBUTION_OF.get(name, COMES_WITH.get(name, name)) for name in third_party_imports() - ASKS_FOR_US}
    assert imported - declared == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_hashes_and_no_address(lock: Path) -> None:
    """What is installed is the same from whichever registry it comes."""
    for block in re.split(r"\n(?=\S)", lock.read_text().strip()):
        assert re.match(r"^[a-z0-9._-]+==[^ ]+( ; .+)? \\$", block.splitlines()[0]), block
        assert all(re.match(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$", line) for line in block.splitlines()[1:]), block


@pytest.mark.parametrize("folder", ["console", "tests/support/chromium_package"])
def test_an_npm_lock_has_hashes_and_no_address(folder: str) -> None:
    """The same for what npm installs."""
    lock = (ROOT / folder / "package-lock.json").read_text()
    assert '"resolved"' not in lock
    assert '"integrity"' in lock


def test_the_locks_agree() -> None:
    """What is tested is what runs: the same versions in every lock."""
    tested = locked("dev")
    for name in ("run", "build"):
        assert locked(name).items() <= tested.items()


def test_the_locks_hold_all_that_is_declared() -> None:
    """A dependency that was added is locked, too."""
    groups = PROJECT["dependency-groups"]
    wanted = {
        "run": PROJECT["project"]["dependencies"],
        "build": groups["build"] + PROJECT["build-system"]["requires"],
        "dev": [requirement for requirement in groups["dev"] if isinstance(requirement, str)],
    }
    for name, requirements in wanted.items():
        assert {distribution(requirement) for requirement in requirements} - set(locked(name)) == set()


def test_the_version_is_said_once_in_each_place() -> None:
    """The package, its metadata and the console are of one version."""
    console = (ROOT / "console" / "package.json").read_text()
    assert PROJECT["project"]["version"] == runcast.__version__
    assert f'"version": "{runcast.__version__}"' in console


@pytest.fixture
def services() -> dict[str, Any]:
    """The services of the compose file."""
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services: dict[str, Any] = parsed["services"]
    return services


class TestCompose:
    """`docker-compose.yml`, for those who have Docker."""

    def test_the_parts_are_there(self, services: dict[str, Any]) -> None:
        """Redis, PostgreSQL, the migrations, the API and a worker."""
        assert set(services) == {"redis", "postgres", "migrate", "api", "worker"}
        assert {name for name, service in services.items() if "healthcheck" in service} == {"redis", "postgres", "api"}

    def test_nothing_starts_without_a_key(self, services: dict[str, Any]) -> None:
        """The key and the password come from the environment or compose refuses; none stands in the file."""
        for name in ("api", "worker", "migrate"):
            environment = services[name]["environment"]
            assert environment["RUNCAST_API_KEY"].startswith("${RUNCAST_API_KEY:?")
            assert "${POSTGRES_PASSWORD:?" in environment["DATABASE_URL"]

    def test_only_this_machine_is_served_unless_said_otherwise(self, services: dict[str, Any]) -> None:
        """Redis and PostgreSQL are published nowhere, the API on the loopback address."""
        assert {name: service["ports"] for name, service in services.items() if "ports" in service} == {
            "api": ["${RUNCAST_PUBLISH:-127.0.0.1:3000}:3000"]
        }

    def test_api_and_workers_share_what_runs_make(self, services: dict[str, Any]) -> None:
        """One volume is mounted in both, where artifacts are kept unless a bucket is named; its owner is Runcast."""
        place = "/var/lib/runcast/artifacts"
        for name in ("api", "worker"):
            assert services[name]["volumes"] == [f"artifacts:{place}"]
            assert services[name]["environment"]["RUNCAST_ARTIFACTS_URL"].endswith(f":-file://{place}}}")
        assert f"install -d -o runcast -g runcast -m 0750 {place}" in (ROOT / "deploy" / "Dockerfile").read_text()

    def test_the_commands_exist(self, services: dict[str, Any]) -> None:
        """What a container is told to run is a command of Runcast with options it knows."""
        for name in ("api", "worker", "migrate"):
            arguments = [sys.executable, "-m", "runcast", *services[name]["command"], "--help"]
            assert subprocess.run(arguments, capture_output=True, check=False, timeout=60).returncode == 0

    def test_what_is_copied_into_the_image_is_there(self) -> None:
        """The Dockerfile names files of the repository."""
        for line in (ROOT / "deploy" / "Dockerfile").read_text().splitlines():
            if line.startswith("COPY ") and "--from" not in line:
                *sources, _ = line.split()[1:]
                assert [source for source in sources if not (ROOT / source).exists()] == []


class TestDev:
    """The checkout's own command."""

    def test_an_unknown_command_lists_the_known_ones(self) -> None:
        """Wrong usage is told, with code 2."""
        result = subprocess.run([ROOT / "dev", "nonsense"], capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert "./dev up" in result.stderr
        assert result.stderr.endswith("dev: there is no command 'nonsense'\n")

    def test_without_a_new_enough_python_it_says_what_to_install(self, tmp_path: Path) -> None:
        """An old Python is one clear sentence, not a traceback."""
        shutil.copy(ROOT / "dev", tmp_path / "dev")
        tools = tmp_path / "bin"
        tools.mkdir()
        for tool in ("sh", "dirname", "cat", "rm", "sed"):
            (tools / tool).symlink_to(str(shutil.which(tool)))
        old = tools / "python3"
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
        result = subprocess.run(
            [tmp_path / "dev", "up"], capture_output=True, text=True, check=False, env={"PATH": str(tools)}
        )
        assert result.returncode == 2
        assert result.stderr == (
            "dev: Python 3.11 or newer is needed, with pip: install it, or name it with PYTHON=/path/to/python\n"
        )

    def test_scripts_are_plain_sh(self) -> None:
        """They run where there is no bash."""
        for script in (ROOT / "dev", ROOT / ".ci" / "run"):
            assert script.read_text().startswith("#!/bin/sh\n")
            assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
            assert script.stat().st_mode & 0o111
