"""The built-in prompt runner: a prompt is planned by the grammar, or by a model if one is set.

Without a model nothing is executed before the whole prompt is understood.
"""

import importlib.util
from typing import Any, Final

from runcast.agent.planner import plan_prompt
from runcast.agent.plans import Mode, execute_plan
from runcast.agent.tools import create_toolbox, offer_toolbox
from runcast.config import Settings
from runcast.context import RunContext
from runcast.errors import ConfigurationError
from runcast.registry import RunnerRegistry
from runcast.runners import PROMPT_RUNNER

_MAX_RESULT_BYTES: Final = 262_144


def register_prompt_runner(app: RunnerRegistry, settings: Settings) -> None:
    """Offer the prompt runner in an application, and its tools beside the application's own.

    Raises:
        ConfigurationError: the settings of a tool or of the model can't work, or the application has a runner or a
            tool of such a name.

    """
    toolbox = create_toolbox(settings)
    for tool in offer_toolbox(toolbox):
        app.tools.add(tool)
    # The result is told in one event, together with its surroundings.
    max_result_bytes = min(_MAX_RESULT_BYTES, settings.max_event_bytes // 2)
    if settings.model:
        _register_model(app, settings, max_result_bytes)
        return

    @app.runner(name=PROMPT_RUNNER)
    async def prompt_runner(run: RunContext, prompt: str, mode: Mode = "auto") -> dict[str, Any]:
        """Do what a prompt says: post, send, e-mail, schedule, read, request a URL, wait."""
        plan = plan_prompt(prompt)
        return await execute_plan(run, plan, toolbox, mode=mode, max_result_bytes=max_result_bytes)


def _register_model(app: RunnerRegistry, settings: Settings, max_result_bytes: int) -> None:
    if not all(importlib.util.find_spec(name) for name in ("pydantic_ai", "openai", "anthropic", "mcp")):
        raise ConfigurationError("RUNCAST_MODEL is set, which needs more packages: pip install 'runcast[model]'")
    # Here, since it takes a while to load, and can't be loaded without the extra.
    from runcast.agent.model.hosting import ModelHost  # noqa: PLC0415

    host = ModelHost(settings, app.tools, max_result_bytes=max_result_bytes)

    @app.runner(name=PROMPT_RUNNER)
    async def prompt_runner(run: RunContext, prompt: str, mode: Mode = "auto") -> dict[str, Any]:
        """Have a model do what a prompt says, with the tools that it is offered."""
        return await host.answer(run, prompt, mode=mode)
