"""The console's files and the page of the API's description, as built into `static/`.

A run's page has the same address as the run's data: a browser that navigates asks for `text/html` and gets the page.
"""

import re
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from runcast.gateway.mounting import path_in

STATIC_DIR: Final = Path(__file__).parent / "static"
_RUN_PAGE_PATH: Final = re.compile(r"/runs/(?!stats$)[^/]+")
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
# Swagger UI sets styles from its script.
_DOCS_POLICY: Final = _CONTENT_SECURITY_POLICY + "; style-src 'self' 'unsafe-inline'"
_DOCS_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Runcast API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div><script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script></body></html>
"""
_DOCS_SCRIPT: Final = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true});\n'


def is_page(scope: Scope) -> bool:
    """Whether the request is for one of the console's pages: the first one, or a browser's for that of a run."""
    if scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
        return False
    path = path_in(scope)
    if path == "/":
        return True
    return _RUN_PAGE_PATH.fullmatch(path) is not None and "text/html" in Headers(scope=scope).get("accept", "")


class ConsolePages:
    """ASGI middleware: answers what goes to a page, lets the rest through."""

    def __init__(self, app: ASGIApp) -> None:
        self._app: Final = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the page or pass on."""
        if is_page(scope):
            await _page()(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def console_routes() -> list[BaseRoute]:
    """Routes of the built files. Without a build there are none, and the pages say so."""
    routes: list[BaseRoute] = [Route("/docs", _docs), Route("/docs/start.js", _docs_script)]
    if STATIC_DIR.is_dir():
        routes.append(Mount("/", StaticFiles(directory=STATIC_DIR), name="static"))
    return routes


def _page() -> Response:
    index = STATIC_DIR / "index.html"
    if not index.is_file():
        return PlainTextResponse("The console is not built: run `./dev up`, or install the wheel.\n", status_code=404)
    headers = {"content-security-policy": _CONTENT_SECURITY_POLICY, "cache-control": "no-cache", "vary": "accept"}
    return FileResponse(index, media_type="text/html", headers=headers)


async def _docs(_: object) -> Response:
    return HTMLResponse(_DOCS_PAGE, headers={"content-security-policy": _DOCS_POLICY})


async def _docs_script(_: object) -> Response:
    return Response(_DOCS_SCRIPT, media_type="text/javascript")
