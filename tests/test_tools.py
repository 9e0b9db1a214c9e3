"""`@app.tool` and the registry: what is offered to a model, and what of its calls is let through."""

from typing import Annotated, Any

import pydantic
import pytest

from runcast import Runcast
from runcast.agent.runner import register_prompt_runner
from runcast.config import Settings
from runcast.errors import ConfigurationError, FatalError, InvalidInputError, ToolError
from runcast.tools import Risk


class Item(pydantic.BaseModel):
    """A thing in stock."""

    name: str
    price: float = 0


def offer(function: Any, **options: Any) -> Any:
    """The tool that a function becomes."""
    app = Runcast()
    app.tool(**options)(function)
    (tool,) = app.tools.values()
    return tool


async def make(tool: Any, **arguments: Any) -> Any:
    return await tool.prepare(arguments).make(lambda *_: None)


async def test_a_function_is_a_tool_with_what_it_says_of_itself() -> None:
    """Name, description and schema come from the function; arguments arrive as its types."""
    app = Runcast()

    @app.tool(risk="read")
    async def find_item(name: Annotated[str, pydantic.Field(description="or a part")], most: int = 3) -> list[Item]:
        """Find things in stock."""
        return [Item(name=name)] * most

    tool = app.tools["find_item"]
    assert (tool.name, tool.description) == ("find_item", "Find things in stock.")
    schema = tool.input_schema
    assert (schema["type"], schema["required"], schema["additionalProperties"]) == ("object", ["name"], False)
    assert schema["properties"]["name"] == {"title": "Name", "type": "string", "description": "or a part"}
    call = tool.prepare({"name": "tea"})
    assert (call.step_name, call.input, call.risk) == ("find_item", {"name": "tea", "most": 3}, Risk.READ)
    assert await call.make(lambda *_: None) == [Item(name="tea")] * 3


async def test_a_plain_function_gets_models_as_models() -> None:
    """It runs in a thread; what it is given is what its signature says."""

    def price(items: list[Item]) -> float:
        return sum(item.price for item in items)

    assert await make(offer(price), items=[{"name": "tea", "price": 2}, {"name": "cup"}]) == 2


def test_without_a_word_about_it_a_tool_is_taken_for_one_that_writes() -> None:
    """Who doesn't say that a function is harmless is asked before it is called."""
    app = Runcast()

    @app.tool
    def remove(name: str) -> None:
        """Remove a thing."""

    call = app.tools["remove"].prepare({"name": "tea"})
    assert (call.risk, call.risk.is_high) == (Risk.WRITE, True)
    assert remove.__name__ == "remove"


@pytest.mark.parametrize(
    ("arguments", "field"), [({}, "input.name"), ({"name": 1}, "input.name"), ({"name": "a", "b": 1}, "input.b")]
)
def test_a_call_that_does_not_fit_is_refused(arguments: dict[str, Any], field: str) -> None:
    """The error names the first place, and nothing is called."""

    def find(name: str) -> None:
        raise AssertionError(name)

    with pytest.raises(InvalidInputError) as caught:
        offer(find).prepare(arguments)
    assert caught.value.field == field


async def test_what_a_function_raises_is_its_answer() -> None:
    """Its message is the application's own, so the model may read it; what is fatal stays so."""

    def find(name: str) -> None:
        raise FatalError("stop") if name == "fatal" else LookupError(f"no {name} in stock")

    tool = offer(find)
    with pytest.raises(ToolError, match="find: no tea in stock"):
        await make(tool, name="tea")
    with pytest.raises(FatalError, match="stop"):
        await make(tool, name="fatal")


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"name": "two words"}, "1 to 64 letters"), ({"risk": "huge"}, "one of none, read, write, publish")],
)
def test_options_that_can_not_be(options: dict[str, Any], reason: str) -> None:
    """A name that no model takes, or an unknown risk, fails when the tool is registered."""
    with pytest.raises(ConfigurationError, match=reason):
        offer(lambda: None, **options)


def test_arguments_need_names() -> None:
    """What can't come from a JSON object is refused."""

    def find(*names: str) -> None:
        raise AssertionError(names)

    with pytest.raises(ConfigurationError, match="name each argument"):
        offer(find)


def test_what_a_model_can_not_say_is_no_argument() -> None:
    """The error names the argument and what to do, in one line."""

    class Own:
        pass

    def use(thing: Own) -> None:
        """Use it."""

    with pytest.raises(
        ConfigurationError, match=r"tool 'use': thing: .*Own can't come from JSON; annotate it"
    ) as caught:
        offer(use)
    assert "\n" not in str(caught.value)


def test_built_in_and_own_tools_are_in_one_registry() -> None:
    """A model is offered both; a name is given once."""
    app = Runcast()
    app.tool(name="stock")(lambda: None)
    register_prompt_runner(app, Settings())
    assert list(app.tools) == ["stock", "linkedin", "slack", "email", "calendar", "read", "http", "wait"]
    assert all(tool.description and tool.input_schema["type"] == "object" for tool in app.tools.values())
    app = Runcast()
    app.tool(name="email")(lambda: None)
    with pytest.raises(ConfigurationError, match="two tools are called 'email'"):
        register_prompt_runner(app, Settings())
