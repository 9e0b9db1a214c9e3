"""MCP servers: their tools, as a model is offered them, for as long as a run lasts.

A server whose tool says that it only reads is believed; any other tool publishes, as far as anybody knows. A server
that can't be reached is left out, and the run's log says so. A command gets no variable of our environment that may
hold a secret.
"""

import asyncio
import contextvars
import json
import math
import re
import shlex
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx2
import mcp
from mcp.client.stdio import StdioServerParameters

from runcast.agent.tools.connection import redact
from runcast.context import RunContext
from runcast.errors import ConfigurationError, OutcomeUnknownError, ToolError
from runcast.tools import Report, Risk, ToolCall

CONNECT_SECONDS: Final = 20.0
CALL_SECONDS: Final = 120.0
MAX_TOOLS: Final = 128
"""Of all servers together: more than a model can keep apart."""

MAX_TEXT_CHARS: Final = 40_000
_MAX_PAGES: Final = 20
_MAX_NAME_CHARS: Final = 64
_DESCRIPTION_CHARS: Final = 2_000

Server = str | StdioServerParameters


def read_servers(texts: Sequence[str]) -> Sequence[Server]:
    """The servers that the setting names.

    Raises:
        ConfigurationError: one is neither a URL nor a command.

    """
    return [_read_server(text) for text in texts]


@asynccontextmanager
async def open_servers(
    run: RunContext, servers: Sequence[Server], *, taken: Collection[str]
) -> AsyncIterator[Mapping[str, "ServerTool"]]:
    """The tools of all servers by name; a name that is taken gets a number."""
    async with AsyncExitStack() as stack:
        tools: dict[str, ServerTool] = {}
        for server in servers:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    client = await stack.enter_async_context(mcp.Client(server, read_timeout_seconds=CALL_SECONDS))
                    found = await _list_tools(client)
            except Exception as error:  # noqa: BLE001 - whatever a stranger's server does, the run can do without
                run.log(f"the MCP server {_name(server)} can't be used: {_explain(error)}", "warning")
                continue
            for tool in found[: MAX_TOOLS - len(tools)]:
                name = _free_name(tool.name, {*taken, *tools})
                tools[name] = ServerTool(name, client, tool)
        yield tools


class ServerTool:
    """One tool of one server."""

    def __init__(self, name: str, client: mcp.Client, tool: mcp.Tool) -> None:
        self.name: Final = name
        self.description: Final = (tool.description or tool.title or tool.name)[:_DESCRIPTION_CHARS]
        self.input_schema: Final[dict[str, Any]] = dict(tool.input_schema)
        is_reading = tool.annotations is not None and tool.annotations.read_only_hint is True
        self._risk: Final = Risk.READ if is_reading else Risk.PUBLISH
        self._client: Final = client
        self._tool: Final = tool

    def prepare(self, arguments: Mapping[str, Any]) -> ToolCall:
        """See `OfferedTool.prepare`. What fits its schema is the server's to say."""
        name = (self._tool.title or self.name)[:_MAX_NAME_CHARS]
        return ToolCall(self.name, name, dict(arguments), self._risk, lambda report: self._call(arguments, report))

    async def _call(self, arguments: Mapping[str, Any], report: Report) -> Any:
        # The client reports from a task of its own, which knows nothing of the step that this is.
        context = contextvars.copy_context()
        is_over = False

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            if not is_over and 0 <= progress < math.inf:
                whole = (
                    total if total and progress <= total < math.inf else progress
                )  # a stranger's figures needn't fit
                context.run(report, progress, whole, message or "")

        try:
            result = await self._client.call_tool(self._tool.name, dict(arguments), progress_callback=tell)
        except mcp.MCPError as error:
            raise ToolError(f"{self.name}: {redact(str(error))}") from None
        except Exception as error:  # noqa: BLE001 - a stranger's library, whose errors are translated once
            text = f"the MCP server of {self.name} broke off ({type(error).__name__})"
            if self._risk is Risk.PUBLISH:
                raise OutcomeUnknownError(f"{text}, perhaps after it did what was asked: look there first") from None
            raise ToolError(f"{text}; trying again later may work", is_retryable=True) from None
        finally:
            is_over = True
        if result.is_error:
            raise ToolError(f"{self.name}: {_read_text(result)[:1_000] or 'it failed and gave no reason'}")
        if result.structured_content is not None and len(json.dumps(result.structured_content)) <= MAX_TEXT_CHARS:
            return result.structured_content
        return {"text": _read_text(result)}


def _read_server(text: str) -> Server:
    if re.match(r"https?://", text):
        try:
            host = httpx2.URL(text).host
        except httpx2.InvalidURL:
            host = ""
        if not host:
            raise ConfigurationError("RUNCAST_MCP_SERVERS holds something that is no URL")
        return text
    try:
        command, *arguments = shlex.split(text)
    except ValueError:
        raise ConfigurationError("RUNCAST_MCP_SERVERS holds something that is neither a URL nor a command") from None
    return StdioServerParameters(command=command, args=arguments)


async def _list_tools(client: mcp.Client) -> list[mcp.Tool]:
    tools: list[mcp.Tool] = []
    cursor = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None or len(tools) >= MAX_TOOLS:
            break
    return tools


def _free_name(name: str, taken: Collection[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:_MAX_NAME_CHARS] or "tool"
    free, number = base, 2
    while free in taken:
        free = f"{base[: _MAX_NAME_CHARS - 4]}_{number}"
        number += 1
    return free


def _read_text(result: mcp.types.CallToolResult) -> str:
    """What it says in words; of pictures and sounds it is told that they are there."""
    parts = [getattr(part, "text", None) or f"({part.type}: not shown)" for part in result.content]
    return "\n".join(parts)[:MAX_TEXT_CHARS].replace("\x00", "\ufffd")


def _name(server: Server) -> str:
    return str(httpx2.URL(server).host) if isinstance(server, str) else server.command


def _explain(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return redact(f"{type(error).__name__}: {error}")
