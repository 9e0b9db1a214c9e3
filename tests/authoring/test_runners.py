"""What can be a runner, and what is refused where it is written."""

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Protocol, TypeVar

import pytest

from runcast import Runcast, RunContext, SyncRunContext
from runcast.errors import ConfigurationError

T = TypeVar("T")


class Own:
    """Nothing that JSON could say."""


class Logging(Protocol):
    """As much of a run as a runner may need."""

    def log(self, message: str) -> None: ...


class OwnContext(RunContext):
    """A context with more methods."""


async def name_first(name: str) -> None: ...
async def list_first(names: list[str]) -> None: ...
async def choice_first(name: Literal["a", "b"]) -> None: ...
async def nothing_first(run: None) -> None: ...
async def keyword_first(*, run: RunContext) -> None: ...
async def blocks(run: SyncRunContext) -> None: ...
def awaits(run: RunContext, name: str) -> None: ...
async def of_own_type(run: RunContext, number: int, thing: Own) -> None: ...
async def of_functions(run: RunContext, call: Callable[[], None]) -> None: ...
async def underscored(run: RunContext, _name: str) -> None: ...


async def yields(_: RunContext) -> Any:
    yield 1


def generates(_: SyncRunContext) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (name_first, "its first is `name: str`: write `async def name_first(run: RunContext, …)`"),
        (list_first, "must take the run"),
        (choice_first, "must take the run"),
        (nothing_first, "must take the run"),
        (keyword_first, "must take the run"),
        (blocks, "runner 'blocks' is an async function: write `run: RunContext`, or make it a plain function"),
        (awaits, "is a plain function, which runs in a thread: write `run: SyncRunContext`, or make it"),
        (of_own_type, "runner 'of_own_type': thing: tests.authoring.test_runners.Own can't come from JSON;"),
        (of_functions, "can't come from JSON; annotate it"),
        (underscored, "runner 'underscored': _name: str: an input's name begins with a letter"),
        (yields, "runner 'yields' yields: a runner returns its result"),
        (generates, "runner 'generates' yields"),
    ],
)  # fmt: skip
def test_what_cant_be_a_runner_is_refused_in_one_line(function: Callable[..., Any], words: str) -> None:
    """It names the runner and says what to write."""
    with pytest.raises(ConfigurationError) as caught:
        Runcast().runner(function)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


async def unannotated(anything, name: str) -> None: ...  # type: ignore[no-untyped-def]
async def any_first(run: Any) -> None: ...
async def object_first(run: object) -> None: ...
async def protocol_first(run: Logging) -> None: ...
async def own_first(run: OwnContext) -> None: ...
async def either_first(run: RunContext | SyncRunContext) -> None: ...
async def annotated_first(run: Annotated[RunContext, "the run"]) -> None: ...
async def variable_first(run: T) -> None: ...
async def told_later(run: "RunContext") -> None: ...
def plain(run: SyncRunContext) -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        unannotated,
        any_first,
        object_first,
        protocol_first,
        own_first,
        either_first,
        annotated_first,
        variable_first,
        told_later,
        plain,
    ],
)
def test_a_first_argument_that_may_be_the_run_is_accepted(function: Callable[..., Any]) -> None:
    """Whatever it is called; without an annotation too."""
    app = Runcast()
    app.runner(function)
    assert list(app.runners) == [function.__name__]
