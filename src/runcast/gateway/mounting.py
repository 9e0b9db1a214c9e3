"""Where the gateway is mounted. ASGI's `path` is the whole path: what it means begins after `root_path`."""

from starlette.types import Scope


def prefix_of(scope: Scope) -> str:
    """The path below which the gateway is mounted; empty if it is the whole server."""
    prefix: str = scope.get("root_path", "")
    return prefix.rstrip("/")


def path_in(scope: Scope) -> str:
    """The request's path as the gateway's routes have it."""
    path: str = scope["path"]
    prefix = prefix_of(scope)
    return path.removeprefix(prefix) if path.startswith(f"{prefix}/") else path
