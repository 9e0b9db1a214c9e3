"""The layers: which part may know which. Words ← core ← ports ← {backends, services} ← gateway ← roots."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "runcast"
WORDS = {"runcast.concurrency", "runcast.errors", "runcast.events", "runcast.records"}
FORBIDDEN_IN_CORE = {
    "asyncio",
    "time",
    "os",
    "random",
    "logging",
    "redis",
    "structlog",
    "socket",
    "threading",
    "datetime",
}

AUTHORING = {
    "runcast.context",
    "runcast.journaling",
    "runcast.messages",
    "runcast.registry",
    "runcast.runners",
    "runcast.signatures",
    "runcast.steps",
    "runcast.threads",
    "runcast.tools",
}
"""What users write runs with: the layer `authoring`."""

# What each layer may import of Runcast, besides itself; the longest prefix that fits decides.
ALLOWED: dict[str, set[str]] = {
    "runcast.errors": set(),
    "runcast.concurrency": set(),
    "runcast.events": WORDS,
    "runcast.records": WORDS,
    "runcast.config": {"runcast.errors"},
    "runcast.core": WORDS,
    "runcast.ports": WORDS,
    **dict.fromkeys(AUTHORING, WORDS | AUTHORING | {"runcast.streams"}),
    "runcast.dialects": WORDS,
    "runcast.streams": WORDS | {"runcast.dialects"},
    "runcast.backends": WORDS | {"runcast.core", "runcast.logs", "runcast.ports"},
    "runcast.services": WORDS | AUTHORING | {"runcast.core", "runcast.logs", "runcast.ports"},
    "runcast.gateway": WORDS
    | AUTHORING
    | {"runcast.config", "runcast.core", "runcast.logs", "runcast.ports", "runcast.services"},
    "runcast.agent": WORDS | AUTHORING | {"runcast.config"},
    "runcast.observe": WORDS | {"runcast.config"},
    "runcast.client": WORDS | {"runcast.core"},
    "runcast.transcript": WORDS | {"runcast.client"},
    "runcast.leash": set(),
    "runcast.logs": set(),
    "runcast.readiness": set(),
    "runcast.chaos": WORDS | AUTHORING | {"runcast.backends", "runcast.leash"},
    "runcast.supervisor": WORDS | {"runcast.core", "runcast.leash", "runcast.logs"},
    "runcast.pytest_plugin": {"runcast.testing"},
    "runcast.loading": WORDS | AUTHORING,
    "runcast.reload": WORDS | {"runcast.logs", "runcast.supervisor"},
}
ROOTS = {
    "runcast.app",
    "runcast.assembly",
    "runcast.asgi",
    "runcast.embedding",
    "runcast.testing",
    "runcast.cli",
    "runcast.stack",
    "runcast.doctor",
    "runcast.preflight",
    "runcast.migrated",
    "runcast.__main__",
    "runcast",
}
"""Composition roots: they put the parts together and may know them all."""


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports_of(path: Path) -> set[str]:
    """All that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def layer_of(module: str) -> str | None:
    fitting = [layer for layer in ALLOWED if module == layer or module.startswith(f"{layer}.")]
    return max(fitting, key=len, default=None)


@pytest.mark.parametrize(("module", "path"), list(modules()), ids=[name for name, _ in modules()])
def test_a_module_imports_only_what_its_layer_may_know(module: str, path: Path) -> None:
    """An arrow that points the wrong way fails here, with its name."""
    layer = layer_of(module)
    if layer is None:
        assert {module, module.rpartition(".")[0]} & (ROOTS - {"runcast"}) or module == "runcast", (
            f"{module} belongs to no layer: say in this test where it stands"
        )
        return
    allowed = ALLOWED[layer] | {layer}
    ours = {name for name in imports_of(path) if name.split(".")[0] == "runcast"}
    wrong = {name for name in ours if not any(name == known or name.startswith(f"{known}.") for known in allowed)}
    assert wrong == set()


@pytest.mark.parametrize(
    "path", sorted((SOURCE / "core").glob("*.py")), ids=lambda path: path.stem if isinstance(path, Path) else str(path)
)
def test_the_core_does_no_io_and_reads_no_clock(path: Path) -> None:
    """What decides can be tested without a socket."""
    assert {name.split(".")[0] for name in imports_of(path)} & FORBIDDEN_IN_CORE == set()
    assert not any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(ast.parse(path.read_text())))


def test_only_settings_read_the_environment() -> None:
    """One place to look what can be set."""
    readers = {name for name, path in modules() if "os.environ" in path.read_text() or "getenv" in path.read_text()}
    assert readers <= {
        "runcast.config",
        "runcast.cli.health",
        "runcast.cli.parts",
        "runcast.stack",
        "runcast.testing.redis",
    }
