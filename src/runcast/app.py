"""What users import: `Runcast`, their application, and what goes with it.

app = Runcast()

@app.runner
async def greet(run: RunContext, name: str) -> dict[str, str]:
    text = await run.step("compose", compose, name)
    return {"text": text}
"""

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from runcast.context import Approval, ChildRun, RunContext
from runcast.registry import RunnerRegistry
from runcast.runners import Limit
from runcast.threads import SyncRunContext

if TYPE_CHECKING:
    from runcast.asgi import Authorize, MountedGateway
    from runcast.config import Settings

__all__ = ["Approval", "ChildRun", "Limit", "RunContext", "Runcast", "SyncRunContext"]


class Runcast(RunnerRegistry):
    """An application: runners, and the doors through which they are served from a process of one's own."""

    def asgi(self, settings: "Settings | None" = None, *, authorize: "Authorize | None" = None) -> "MountedGateway":
        """The gateway as an ASGI app, to mount in an application of your own. Without settings the environment's hold.

        `authorize` says who sends a request or opens a WebSocket: see `runcast.asgi.create_gateway`.
        """
        # Whoever only writes runners doesn't load a server.
        from runcast.asgi import create_gateway  # noqa: PLC0415

        return create_gateway(settings, app=self, authorize=authorize)

    def worker(self, settings: "Settings | None" = None) -> AbstractAsyncContextManager[None]:
        """Execute this application's runs inside the present process while the block lasts."""
        from runcast.embedding import run_worker  # noqa: PLC0415  # see above

        return run_worker(settings, app=self)
