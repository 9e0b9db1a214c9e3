"""The documents say what is so: each setting, error, route, option and event type stands in them, each link leads on.

`python -m tests.test_docs` draws the diagram in ARCHITECTURE.md anew.
"""

import ast
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import click
import pytest

import runcast.stack  # noqa: F401 - its error belongs to the tree
from runcast import Runcast, RunContext
from runcast.cli import cli
from runcast.config import Settings
from runcast.core.lifecycle import RUN_TRANSITIONS
from runcast.errors import RuncastError
from runcast.events import FINAL_STATUSES, ControlType, EventType, RunStatus
from runcast.gateway.schemas import Stats
from runcast.testing import RunHarness
from tests.gateway.test_api import wait_for_status
from tests.support.stack import Stack, start_stack

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "console" / "README.md"])
GUIDE = sorted(ROOT.glob("docs/guide/*.md"))  # its code is run by test_guide.py
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
_DIAGRAM = re.compile(r"(?<=<!-- lifecycle -->\n).*?(?=<!-- /lifecycle -->)", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"")
_NOTHING = "\N{EN DASH}"
_INTERNAL = 1011  # the close code of an error that WebSocket has no word for


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Every code block in a language, with where it stands."""
    for document in DOCUMENTS:
        for number, text in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
        ):
            yield f"{document.relative_to(ROOT)}-{number}", text


def texts(language: str) -> list[str]:
    return [text for _, text in blocks(language)]


def draw_lifecycle() -> str:
    """The table of run statuses as a diagram."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {RunStatus.QUEUED}"]
    for before in RunStatus:
        lines += [f"    {before} --> {after}" for after in RunStatus if after in RUN_TRANSITIONS[before]]
    lines += [f"    {status} --> [*]" for status in RunStatus if status in FINAL_STATUSES]
    return "\n".join([*lines, "```", ""])


def variable_of(name: str) -> str:
    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"RUNCAST_{name.upper()}"


def setting_row(name: str) -> str:
    """A setting as a row of the table in configuration.md."""
    field = Settings.model_fields[name]
    default = str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
    shown = _NOTHING if field.default in (None, ()) else f"`{default}`"
    return f"| `{variable_of(name)}` | {shown} | {field.description} |"


def error_classes(kind: type[RuncastError] = RuncastError) -> Iterator[type[RuncastError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from error_classes(child)


def codes_in_source() -> set[str]:
    """Codes that are written where they are said, not as a class."""
    source = "\n".join(path.read_text() for path in (ROOT / "src" / "runcast").rglob("*.py"))
    return set(re.findall(r'\bcode="(\w+)"', source))


def test_the_diagram_of_statuses_is_the_table() -> None:
    """`python -m tests.test_docs` draws it anew."""
    found = _DIAGRAM.search(read("ARCHITECTURE.md"))
    assert found is not None
    assert found[0] == draw_lifecycle()


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_each_setting_is_documented(name: str) -> None:
    """With its variable, default and description as the code has them."""
    assert setting_row(name) in read("docs/configuration.md").splitlines()


def test_no_setting_is_documented_that_is_not_there() -> None:
    """A variable that a document names can be set."""
    known = {variable_of(name) for name in Settings.model_fields}
    others = {"RUNCAST_PUBLISH"}  # docker-compose.yml's own
    for document in [*DOCUMENTS, *GUIDE]:
        named = set(re.findall(r"\bRUNCAST_[A-Z_]+\b", document.read_text()))
        assert named - known - others == set(), document.name


@pytest.mark.parametrize("error", list(error_classes()), ids=lambda error: str(error.code))
def test_each_error_code_is_documented(error: type[RuncastError]) -> None:
    """Where requests are answered with it, with its HTTP status and its close code."""
    rows = [row for row in read("docs/errors.md").splitlines() if row.startswith(f"| `{error.code}` |")]
    assert len(rows) == 1
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    if len(cells) == 5 and error is not RuncastError:
        close = _NOTHING if error.close_code == _INTERNAL else str(error.close_code)
        assert cells[1:3] == [str(error.http_status), close]


@pytest.mark.parametrize("code", sorted(codes_in_source()))
def test_each_code_outside_the_tree_is_documented(code: str) -> None:
    """What only HTTP or a run's record says has a row as well."""
    assert f"| `{code}` |" in read("docs/errors.md")


@pytest.mark.parametrize("word", [*EventType, *ControlType, *RunStatus])
def test_each_word_of_the_wire_is_documented(word: str) -> None:
    """Event types, control frames and statuses stand in api.md."""
    assert f"`{word}`" in read("docs/api.md")


@pytest.mark.parametrize("command", cli.commands.values(), ids=str)
def test_each_command_is_documented_with_its_options(command: click.Command) -> None:
    """One row of operations.md has the command and all its options."""
    row = next(row for row in read("docs/operations.md").splitlines() if row.startswith(f"| `runcast {command.name}"))
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in re.findall(r"--[a-z-]+", row)
        else:
            assert parameter.human_readable_name in row


@pytest.mark.parametrize("document", [*DOCUMENTS, *GUIDE], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """A relative link names a file that is there, and a heading that it has."""
    for link in filter(None, (either for pair in _LINK.findall(document.read_text()) for either in pair)):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, heading = link.partition("#")
        target = (document.parent / place).resolve() if place else document
        assert target.exists(), link
        assert not heading or heading in anchors_of(target), link


def anchors_of(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_each_folder_and_module_is_on_the_map() -> None:
    """Whoever adds a module says in ARCHITECTURE.md what it is."""
    page = read("ARCHITECTURE.md")
    source = ROOT / "src" / "runcast"
    modules = [
        *source.glob("*.py"),
        *(path for name in ("core", "services", "gateway", "backends") for path in (source / name).glob("*.py")),
    ]
    named = [path for path in modules if not path.name.startswith("__")]
    missing = [path.name for path in named if path.name not in page]
    assert missing == []


@pytest.mark.parametrize("text", texts("json"), ids=[place for place, _ in blocks("json")])
def test_json_is_json(text: str) -> None:
    """What is shown as JSON can be read as such."""
    json.loads(text)


@pytest.mark.parametrize("text", texts("python"), ids=[place for place, _ in blocks("python")])
def test_python_runs_up_to_its_definitions(text: str) -> None:
    """Python that is shown compiles, and its imports and definitions work."""
    tree = ast.parse(text)
    tree.body = [node for node in tree.body if not isinstance(node, ast.Expr)]  # asyncio.run(…) needs a server
    code: CodeType = compile(tree, "document", "exec")
    exec(code, {"__name__": "document"})


async def test_the_runner_that_the_readme_shows_runs(run_harness: Callable[..., RunHarness]) -> None:
    """Approved, it sends; its report is told as it is written, and asked about."""
    code = next(text for text in texts("python") if "async def research" in text)
    names: dict[str, Any] = {"__name__": "document"}
    exec(code, names)
    async with run_harness(names["app"]) as harness:
        result = await harness.run("research", topic="redis", answers=[True])
    assert (result.status, result.output) == ("done", {"sent": True})
    assert [step.name for step in result.steps] == ["search", "write", "send"]
    assert result.text == result.requests[0].preview == "redis, source 1. redis, source 2. "


def test_the_stats_shown_have_every_key() -> None:
    """The example in api.md is what the API answers: each key and no other."""
    shown = next(value for value in map(json.loads, texts("json")) if "activeConnections" in value)
    assert Stats.model_validate(shown).model_dump() == shown


@pytest.fixture
async def stack(redis_url: str, tmp_path: Path) -> Any:
    app = Runcast()

    @app.runner
    async def sign(run: RunContext) -> bool:
        return bool(await run.approve("Sign?"))

    @app.runner
    async def research(run: RunContext, topic: str) -> str:
        return await run.step("search", str, topic)

    async with start_stack(app, redis_url=redis_url, data_dir=tmp_path) as started:
        yield started


async def test_each_route_is_documented(stack: Stack) -> None:
    """With its method, as the API describes itself; the WebSockets as well."""
    page = read("docs/api.md")
    paths = (await stack.get("/openapi.json"))["paths"]
    routes = {f"`{method.upper()} {path}`" for path, methods in paths.items() for method in methods}
    assert {route for route in routes if f"| {route} |" not in page} == set()
    documented = set(re.findall(r"^\| (`(?:GET|POST) [^`]+`) \|", page, re.MULTILINE))
    assert documented == routes


async def test_each_curl_line_works_as_it_is_printed(stack: Stack) -> None:
    """Sent to a real server as curl would send it, each is answered with success."""
    lines = [line for text in texts("sh") for line in text.splitlines() if line.startswith("curl ")]
    assert lines
    for line in lines:
        is_answer = "/input" in line
        asked = {"runner": "sign"} if is_answer else {"prompt": "wait 20 seconds"}
        run_id = (await stack.http.post("/runs", json=asked)).json()["runId"]
        if is_answer:
            await wait_for_status(stack, run_id, "awaiting_approval")
        method, path, options = read_curl(line.replace("$RUN_ID", run_id))
        answer = await stack.http.request(method, path, **options)
        assert answer.is_success, (line, answer.text)
        await stack.http.post(f"/runs/{run_id}/cancel")


def read_curl(line: str) -> tuple[str, str, dict[str, Any]]:
    """Method, path, headers and body of a curl command of the kind that the documents show."""
    words = shlex.split(line)[1:]
    method, path = "", ""
    headers: dict[str, str] = {}
    options: dict[str, Any] = {"headers": headers}
    while words:
        match words.pop(0):
            case "-s" | "-N":
                pass
            case "-H":
                name, _, value = words.pop(0).partition(": ")
                headers[name] = value
            case "-X":
                method = words.pop(0)
            case "-d":
                options["content"] = words.pop(0).encode()
                headers["content-type"] = "application/x-www-form-urlencoded"
            case address:
                assert address.startswith("localhost:3000/"), line
                path = address.removeprefix("localhost:3000")
    return method or ("POST" if "content" in options else "GET"), path, options


if __name__ == "__main__":
    ARCHITECTURE.write_text(_DIAGRAM.sub(lambda _: draw_lifecycle(), ARCHITECTURE.read_text()))
