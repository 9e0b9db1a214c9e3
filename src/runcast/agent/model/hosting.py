"""What a process keeps to answer prompts with a model: its settings, checked. Connections are made for each run."""

from typing import Any, Final

from runcast.agent.model.conversation import Conversation, Limits
from runcast.agent.model.provider import ModelChoice, open_model
from runcast.agent.model.servers import open_servers, read_servers
from runcast.agent.plans import Mode
from runcast.config import Settings
from runcast.context import RunContext
from runcast.tools import ToolRegistry


class ModelHost:
    """See the module."""

    def __init__(self, settings: Settings, tools: ToolRegistry, *, max_result_bytes: int) -> None:
        """Take the settings.

        Raises:
            ConfigurationError: they can't work.

        """
        self._choice: Final = ModelChoice.read(settings)
        self._servers: Final = read_servers(settings.mcp_servers)
        self._tools: Final = tools
        self._asks_for_risky: Final = settings.tool_approval == "risky"
        self._limits: Final = Limits(
            max_steps=settings.model_max_steps,
            max_tokens=settings.model_max_tokens,
            timeout_seconds=settings.model_timeout_seconds,
            max_result_bytes=max_result_bytes,
        )

    async def answer(self, run: RunContext, prompt: str, *, mode: Mode) -> dict[str, Any]:
        """Have a prompt done.

        Raises:
            ModelError: the model could not be asked, or came to no end.

        """
        async with (
            open_model(self._choice, timeout_seconds=self._limits.timeout_seconds) as model,
            open_servers(run, self._servers, taken=self._tools) as server_tools,
        ):
            conversation = Conversation(
                run=run,
                choice=self._choice,
                model=model,
                tools={**self._tools, **server_tools},
                mode=mode,
                asks_for_risky=self._asks_for_risky,
                limits=self._limits,
            )
            return await conversation.hold(prompt)
