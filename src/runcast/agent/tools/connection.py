"""How tools speak HTTP: one request, one bounded answer, every failure translated.

Invariants: nothing is sent twice; nothing is read beyond the limits; no proxy or credential is taken from the
environment; certificates are checked. No URL, header or body stands in the message of an error.
"""

import asyncio
import functools
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import httpx

from runcast.agent.tools.addresses import is_public
from runcast.errors import AddressForbiddenError, ConfigurationError, OutcomeUnknownError, ToolError

CONNECT_SECONDS: Final = 10.0
SILENCE_SECONDS: Final = 30.0
TOTAL_SECONDS: Final = 60.0
MAX_REDIRECTS: Final = 5
USER_AGENT: Final = "runcast"
_MAX_ADDRESSES: Final = 4  # of one name that are tried
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500
LOOPBACK_HOSTS: Final = frozenset({"127.0.0.1", "::1", "localhost"})
# Others may name codecs that aren't for text, or cost more to decode than they are worth.
_CHARSETS: Final = frozenset({"utf-8", "us-ascii", "ascii", "iso-8859-1", "windows-1252", "utf-16"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said, as far as it was read."""

    status: int
    url: str  # where it came from, after redirects
    headers: Mapping[str, str]
    charset: str
    body: bytes
    is_truncated: bool

    @property
    def text(self) -> str:
        """The body as text. What isn't text in it becomes U+FFFD, and so does NUL, which PostgreSQL can't keep."""
        return self.body.decode(self.charset, errors="replace").replace("\x00", "\ufffd")

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may be answered otherwise later."""
        return self.status == _TOO_MANY_REQUESTS or self.status >= _SERVER_ERROR


async def send(  # noqa: D417 - the others are the request's own words
    transport: httpx.AsyncBaseTransport,
    request: httpx.Request,
    *,
    service: str,
    is_repeatable: bool,
    max_body_bytes: int,
    follow_redirects: bool = False,
    total_seconds: float = TOTAL_SECONDS,
) -> Answer:
    """Send one request once, and read up to `max_body_bytes` of the answer.

    Args:
        service: What messages call the other side.
        is_repeatable: Whether the request may be sent again when nobody knows if it arrived.

    Raises:
        ToolError: there is no answer.
        OutcomeUnknownError: there is none, but the request may have taken effect.

    """
    # Not the environment's proxies and netrc: a proxy would connect to what was never checked.
    client = httpx.AsyncClient(transport=transport, trust_env=False, max_redirects=MAX_REDIRECTS)
    # Not compressed: a limit on what is read would be none on what that unpacks to.
    request.headers.update({"accept-encoding": "identity", "user-agent": USER_AGENT})
    # On the request, since the client's own time limits don't apply to one that was made without it.
    request.extensions["timeout"] = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS).as_dict()
    with translate_failures(service, is_repeatable=is_repeatable):
        async with asyncio.timeout(total_seconds), client:
            response = await client.send(request, stream=True, follow_redirects=follow_redirects)
            try:
                return await _read_answer(response, max_body_bytes)
            finally:
                await response.aclose()


@contextmanager
def translate_failures(service: str, *, is_repeatable: bool) -> Iterator[None]:
    """Say in our errors what httpx says in its own."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        reason = str(error)[:200] or "no connection in time"
        raise ToolError(f"{service} can't be reached: {reason}; nothing was sent", is_retryable=True) from None
    except httpx.TooManyRedirects:
        raise ToolError(f"{service} redirects more than {MAX_REDIRECTS} times") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise ToolError(f"{service} redirects to something that is not an http or https URL") from None
    except (TimeoutError, httpx.TransportError) as error:
        kind = "did not answer in time" if _is_timeout(error) else f"broke the connection ({type(error).__name__})"
        if is_repeatable:
            raise ToolError(f"{service} {kind}; trying again later may work", is_retryable=True) from None
        raise OutcomeUnknownError(f"{service} {kind}, perhaps after it did what was asked: look there first") from None
    except httpx.HTTPError as error:
        raise ToolError(f"{service} gave an answer that can't be read ({type(error).__name__})") from None


def redact(text: str, *secrets: str) -> str:
    """Foreign text without our secrets, should they be echoed, and short enough for a message."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "•••")
    return " ".join(text.split())[:500]


def describe_refusal(service: str, answer: Answer, message: str) -> str:
    """The sentence that tells of an answer that is a no."""
    advice = "trying again later may work" if answer.is_retryable else "trying again as it is will not help"
    after = answer.headers.get("retry-after", "")
    when = f" (after {after} s)" if after.isascii() and after.isdecimal() and len(after) <= 6 else ""  # noqa: PLR2004
    said = f"“{message}”" if message else "without a reason"
    return f"{service} refused with status {answer.status}: {said}; {advice}{when}"


def check_service_url(text: str, *, setting: str) -> httpx.URL:
    """The URL of a service that gets a secret: https, or loopback for a stand-in.

    Raises:
        ConfigurationError: it is something else. The message doesn't repeat it, for it may be the secret.

    """
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        raise ConfigurationError(f"{setting} is not a URL") from None
    is_safe = url.scheme == "https" or (url.scheme == "http" and url.host in LOOPBACK_HOSTS)
    if not is_safe or not url.host:
        raise ConfigurationError(f"{setting} must be an https:// URL, since a secret goes there")
    return url


@functools.cache
def tls_context() -> ssl.SSLContext:
    """The authorities that we trust. Made once: it takes tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=False)


def direct_transport() -> httpx.AsyncHTTPTransport:
    """The way to a service that settings name."""
    return httpx.AsyncHTTPTransport(verify=tls_context(), trust_env=False)


class HidingTransport(httpx.AsyncBaseTransport):
    """Sends every request to a URL that is a secret: the client, which logs URLs, knows only another one."""

    def __init__(self, secret_url: httpx.URL, inner: httpx.AsyncBaseTransport) -> None:
        self._secret_url: Final = secret_url
        self._inner: Final = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it there."""
        return await self._inner.handle_async_request(_redirected(request, self._secret_url, {}))

    async def aclose(self) -> None:
        """Close the way there."""
        await self._inner.aclose()


class CheckedTransport(httpx.AsyncBaseTransport):
    """Looks a host's addresses up, refuses those that aren't public, and connects to what it has checked.

    The name is not looked up again, so it can't turn into another address after the check. The Host header and the
    certificate are still the name's. Redirects pass here too, each on a connection of its own: one made for another
    name would have been checked against that name's certificate.
    """

    def __init__(self, *, allow_private: bool, tls: ssl.SSLContext | None = None) -> None:
        self._allow_private: Final = allow_private
        self._inner: Final = httpx.AsyncHTTPTransport(
            verify=tls or tls_context(), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it to the first address that takes the connection.

        Raises:
            AddressForbiddenError: one of the host's addresses isn't public.

        """
        if request.url.scheme not in ("http", "https"):
            raise httpx.UnsupportedProtocol("a redirect left the web")
        host = request.url.raw_host.decode("ascii")
        addresses = await self._find_addresses(host, request.url.port)
        for address in addresses[:-1]:
            try:
                return await self._send_to(address, host, request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # not connected, so nothing was sent
        return await self._send_to(addresses[-1], host, request)

    async def aclose(self) -> None:
        """Close what is open."""
        await self._inner.aclose()

    async def _send_to(self, address: str, host: str, request: httpx.Request) -> httpx.Response:
        pinned = _redirected(request, request.url.copy_with(host=address), {"sni_hostname": host})
        return await self._inner.handle_async_request(pinned)

    async def _find_addresses(self, host: str, port: int | None) -> Sequence[str]:
        found = await _look_up(host, port)
        for address in found:
            if not self._allow_private and not is_public(ip_address(address)):
                raise AddressForbiddenError(
                    f"the host {host[:100]} has the address {address}, which is not public; "
                    "RUNCAST_HTTP_ALLOW_PRIVATE=true lets the HTTP tool go there"
                )
        return found[:_MAX_ADDRESSES]


def _redirected(request: httpx.Request, url: httpx.URL, extensions: Mapping[str, str]) -> httpx.Request:
    return httpx.Request(
        request.method,
        url,
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, **extensions},
    )


async def _look_up(host: str, port: int | None) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise ToolError(f"the host {host[:100]} can't be looked up; is its name right?", is_retryable=True) from None
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    usable = [address for address in addresses if "%" not in address]  # a zone means link-local: never public
    if not usable:
        raise AddressForbiddenError(f"the host {host[:100]} has no public address")
    return usable


async def _read_answer(response: httpx.Response, max_body_bytes: int) -> Answer:
    body = bytearray()
    is_truncated = False
    async for chunk in response.aiter_raw():
        room = max_body_bytes - len(body)
        body += chunk[:room]
        if len(chunk) > room:
            is_truncated = True
            break
    charset = (response.charset_encoding or "utf-8").lower()
    return Answer(
        status=response.status_code,
        url=str(response.url),
        headers=response.headers,
        charset=charset if charset in _CHARSETS else "utf-8",
        body=bytes(body),
        is_truncated=is_truncated,
    )


def _is_timeout(error: Exception) -> bool:
    return isinstance(error, (TimeoutError, httpx.TimeoutException))
