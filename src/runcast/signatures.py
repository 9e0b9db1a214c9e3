"""Signatures: what a registered function takes, as a model that checks input and says its JSON Schema."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic

from runcast.errors import ConfigurationError


def make_input_model(owner: str, name: str, parameters: Sequence[inspect.Parameter]) -> type[pydantic.BaseModel]:
    """The model of the JSON object that gives these parameters, none more. `owner` begins what errors say.

    Raises:
        ConfigurationError: one of them can't come from JSON.

    """
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigurationError(f"{owner}: {parameter} can't come from JSON; name each argument")
        if parameter.name.startswith("_"):
            raise ConfigurationError(f"{owner}: {parameter}: an input's name begins with a letter")
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        fields[parameter.name] = (annotation, ... if parameter.default is parameter.empty else parameter.default)
    try:
        return _make_model(name, fields)
    except (pydantic.PydanticUserError, TypeError) as error:
        wrong = next((each for each in parameters if not _can_be_read(each.name, fields[each.name])), None)
        if wrong is None:
            raise ConfigurationError(f"{owner}: {str(error).splitlines()[0]}") from None
        raise ConfigurationError(
            f"{owner}: {wrong} can't come from JSON; annotate it as a JSON type, dataclass or a pydantic model"
        ) from None


def _make_model(name: str, fields: Mapping[str, Any]) -> type[pydantic.BaseModel]:
    config = pydantic.ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    model: type[pydantic.BaseModel] = pydantic.create_model(f"{name}_input", __config__=config, **fields)
    model.model_json_schema()  # whoever offers the function shows it
    return model


def _can_be_read(name: str, field: Any) -> bool:
    try:
        _make_model(name, {name: field})
    except (pydantic.PydanticUserError, TypeError):
        return False
    return True
