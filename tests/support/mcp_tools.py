"""An MCP server written with the `mcp` package: `python -m tests.support.mcp_tools` speaks over stdio."""

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations


def create_server(posted: list[str] | None = None) -> MCPServer:
    """A server with three tools. What `post` is told goes to `posted`."""
    server = MCPServer("shop")
    told = [] if posted is None else posted

    @server.tool(title="Find a thing", annotations=ToolAnnotations(read_only_hint=True))
    async def find(name: str, context: Context) -> dict[str, str]:
        """Find a thing in the shop."""
        await context.report_progress(1, 2, "looking")
        await context.report_progress(3, 2, "looking further than there is")
        return {"found": name}

    @server.tool()
    def post(text: str) -> str:
        """Put a text on the shop's door."""
        told.append(text)
        return f"{text} is on the door"

    @server.tool(name="wait")
    def fail(reason: str) -> str:
        """Always fails, under a name that a built-in tool has."""
        raise ToolError(reason)

    return server


if __name__ == "__main__":
    create_server().run()
