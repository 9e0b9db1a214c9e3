"""The gateway as an ASGI app, to mount in an application of your own.

    gateway = app.asgi()
    site = FastAPI(lifespan=gateway.lifespan)
    site.mount("/live", gateway)

It is all that `runcast api` serves but the console, on the WebSocket of whatever server runs the application. Workers
are processes of their own, as ever, or run inside this one: `app.worker()`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from runcast.assembly import open_gateway
from runcast.config import Settings
from runcast.core.access import Principal
from runcast.errors import ConfigurationError
from runcast.gateway.edge import Authorize
from runcast.logs import set_level
from runcast.registry import RunnerRegistry

__all__ = ["Authorize", "MountedGateway", "Principal", "create_gateway"]


def create_gateway(
    settings: Settings | None = None, *, app: RunnerRegistry | None = None, authorize: Authorize | None = None
) -> "MountedGateway":
    """The gateway of an application, not started yet. Without settings those of the environment hold.

    `authorize` is awaited with every request and WebSocket that tells of runs or changes them, and says who asks: a
    name, or None for somebody who has to sign in first. Then no API key is asked for.

    Raises:
        ConfigurationError: a setting of the environment doesn't fit.

    """
    return MountedGateway(settings or Settings.load(), app=app or RunnerRegistry(), authorize=authorize)


class MountedGateway:
    """An ASGI app that serves while its `lifespan` lasts. Run as a server's only app, it sees to that itself."""

    def __init__(self, settings: Settings, *, app: RunnerRegistry, authorize: Authorize | None = None) -> None:
        self._settings: Final = settings
        self._app: Final = app
        self._authorize: Final = authorize
        self._served: ASGIApp | None = None  # while the lifespan lasts

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Start the gateway, and stop it at the end. A mounted app isn't told of start and stop: enter this.

        Raises:
            ConfigurationError: there is no REDIS_URL, or it is started already.
            UnavailableError: the database can't be reached.

        """
        if self._served is not None:
            raise ConfigurationError("the gateway is started already: enter its lifespan once")
        set_level(self._settings.log_level)
        async with open_gateway(self._settings, self._app, has_console=False, authorize=self._authorize) as gateway:
            self._served = gateway.served
            try:
                yield
            finally:
                self._served = None
                gateway.sockets.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        if scope["type"] == "lifespan":
            await Router(lifespan=self.lifespan)(scope, receive, send)
        elif self._served is None:
            raise ConfigurationError("the gateway is not started: FastAPI(lifespan=gateway.lifespan)")
        else:
            await self._served(scope, receive, send)
