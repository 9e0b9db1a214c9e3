"""Who may come in: one decision per request, from its headers, at the edge.

A browser sends Host and Origin, and no page can forge them. Checking Host keeps out names that were pointed at this
machine by somebody else (DNS rebinding); checking Origin keeps out other sites' pages, which may open WebSockets
anywhere. Without an API key only this machine is served, so whoever comes in is its user.
"""

import base64
import binascii
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import msgspec

from runcast.errors import ForbiddenOriginError, RuncastError, UnauthorizedError

SUBPROTOCOL: Final = "runcast.v1"
_BEARER_SUBPROTOCOL: Final = "runcast.bearer."
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the key's holder, this machine's user, or whom the application that Runcast is embedded in knows."""

    name: str


LOCAL_USER: Final = Principal("local")
KEY_HOLDER: Final = Principal("key")


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says of where it comes from and of who sends it; absent headers are None."""

    host: str | None = None
    origin: str | None = None
    authorization: str | None = None
    subprotocols: Sequence[str] = ()


class AccessPolicy:
    """Decides. Where nobody is identified only `allowed_hosts` and loopback names are answered, else any name is."""

    def __init__(
        self,
        *,
        api_key: str | None,
        allowed_hosts: Sequence[str] = (),
        allowed_origins: Sequence[str] = (),
        is_identified: bool = False,  # by somebody else than this policy: then a key isn't asked for
    ) -> None:
        self._key: Final = api_key.encode() if api_key else None
        self._answers_any_host: Final = is_identified or self._key is not None
        self._hosts: Final = _LOOPBACK_NAMES | {host.lower() for host in allowed_hosts}
        self._origins: Final = frozenset(origin.lower().rstrip("/") for origin in allowed_origins)

    def check_origin(self, credentials: Credentials) -> RuncastError | None:
        """Why the request may not come in from where it comes, or None."""
        host = (credentials.host or "").lower()
        if not self._answers_any_host and _name_of(host) not in self._hosts:
            return ForbiddenOriginError(
                f"the host {host[:100]!r} is not served: name it in RUNCAST_ALLOWED_HOSTS, or set RUNCAST_API_KEY"
            )
        origin = (credentials.origin or "").lower()
        if origin and urlsplit(origin).netloc != host and origin not in self._origins:
            return ForbiddenOriginError(
                f"pages of {origin[:100]!r} may not come in: name the origin in RUNCAST_ALLOWED_ORIGINS"
            )
        return None

    def identify(self, credentials: Credentials) -> Principal | RuncastError:
        """Who asks, or why they are not known."""
        if self._key is None:
            return LOCAL_USER
        given = _key_in(credentials)
        if given is None:
            return UnauthorizedError("give the API key: `Authorization: Bearer <key>`")
        # Constant time: how long the answer takes says nothing of how much of a guess was right.
        if not hmac.compare_digest(given, self._key):
            return UnauthorizedError("the API key is wrong")
        return KEY_HOLDER


def _key_in(credentials: Credentials) -> bytes | None:
    scheme, _, value = (credentials.authorization or "").partition(" ")
    if scheme.lower() == "bearer" and value:
        return value.strip().encode()
    # Browsers can't set headers on a WebSocket; a subprotocol, unlike the address, isn't logged on the way.
    for protocol in credentials.subprotocols:
        if protocol.startswith(_BEARER_SUBPROTOCOL):
            return _decode(protocol.removeprefix(_BEARER_SUBPROTOCOL))
    return None


def _decode(text: str) -> bytes | None:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return None


def _name_of(host: str) -> str:
    """The name of `name`, `name:port`, `[v6]` or `[v6]:port`."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host
