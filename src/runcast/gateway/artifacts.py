"""`GET /runs/{runId}/artifacts/{artifactId}`: what a run has made, as a download.

Its content and its name are a stranger's. A browser therefore takes the type as it is said, shows only what can't do
anything, runs nothing of it, and lets no other site embed it.
"""

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Path, Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from runcast.gateway.mounting import path_in
from runcast.gateway.problems import problem
from runcast.gateway.ranges import Span, is_known, read_span
from runcast.records import Artifact
from runcast.services.artifacts import ArtifactService

_PATH: Final = "/runs/{run_id}/artifacts/{artifact_id}"
_IS_PATH: Final = re.compile(r"/runs/[^/]+/artifacts/[^/]+")
_SHOWN_TYPES: Final = frozenset(
    {"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif", "text/plain", "application/pdf"}
)
"""What a browser may show in place: nothing in these is executed. An SVG image may hold a script."""

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
_ID: Final = Path(max_length=64)
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The bytes, in the artifact's type",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    206: {"description": "The range that was asked for"},
    302: {"description": "The artifact is a link, and leads there"},
    304: {"description": "The client has it, by its ETag"},
}


def create_artifact_routes(artifacts: ArtifactService) -> APIRouter:
    """The route, for GET and HEAD."""
    router = APIRouter()

    @router.head(_PATH, include_in_schema=False)
    @router.get(_PATH, tags=["runs"], response_class=Response, responses=_RESPONSES)
    async def get_artifact(run_id: Annotated[str, _ID], artifact_id: Annotated[str, _ID], request: Request) -> Response:
        """What a run has made, or a range of its bytes."""
        artifact = await artifacts.get(run_id, artifact_id)
        if artifact.size is None:
            return RedirectResponse(artifact.url, status_code=302)
        headers = _headers_of(artifact)
        if is_known(request.headers, headers["etag"]):
            return Response(status_code=304, headers=headers)
        span = read_span(request.headers, size=artifact.size, tag=headers["etag"])
        if span is None:
            return _unsatisfiable(artifact.size)
        headers |= {"content-type": artifact.content_type, "content-length": str(span.end - span.start)}
        is_part = span != Span(0, artifact.size)
        if is_part:
            headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{artifact.size}"
        status = 206 if is_part else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers)
        pieces = artifacts.read(run_id, artifact, span.start, span.end)
        first = await anext(pieces)  # what can't be read is told while it still can be
        return StreamingResponse(_joined(first, pieces), status_code=status, headers=headers)

    return router


class ArtifactsAsTheyAre:
    """ASGI middleware: compresses all but artifacts. Their length, ranges and ETag are those of the bytes as kept."""

    def __init__(self, app: ASGIApp, *, otherwise: ASGIApp) -> None:
        self._app: Final = app
        self._otherwise: Final = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, by the path."""
        is_artifact = scope["type"] == "http" and _IS_PATH.fullmatch(path_in(scope)) is not None
        await (self._app if is_artifact else self._otherwise)(scope, receive, send)


def _headers_of(artifact: Artifact) -> dict[str, str]:
    return {
        "etag": f'"{artifact.sha256}"',
        "accept-ranges": "bytes",
        "cache-control": "private, no-cache",
        "content-disposition": _disposition_of(artifact),
        "content-security-policy": _POLICY,
        "cross-origin-resource-policy": "same-origin",
    }


def _disposition_of(artifact: Artifact) -> str:
    """RFC 6266: the name in ASCII for those who know no better, and as it is."""
    kind = "inline" if artifact.content_type.partition(";")[0].strip().lower() in _SHOWN_TYPES else "attachment"
    plain = re.sub(r'[^ -~]|["\\%;]', "_", artifact.name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(artifact.name, safe='')}"


def _unsatisfiable(size: int) -> Response:
    answer = problem(
        416,
        code="range_not_satisfiable",
        title="There are no such bytes",
        detail=f"the artifact has {size} bytes, and the range that is asked for begins after them",
    )
    answer.headers["content-range"] = f"bytes */{size}"
    return answer


async def _joined(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in others:
        yield piece
