"""Who may come in."""

import base64

import pytest

from runcast.core.access import KEY_HOLDER, LOCAL_USER, AccessPolicy, Credentials
from runcast.errors import ForbiddenOriginError, UnauthorizedError

OPEN = AccessPolicy(api_key=None)
KEYED = AccessPolicy(api_key="s3cret", allowed_origins=["https://app.example"])


@pytest.mark.parametrize("host", ["localhost:3000", "127.0.0.1:3000", "[::1]:3000", "LOCALHOST", "127.0.0.1"])
def test_this_machine_is_served_without_a_key(host: str) -> None:
    """Loopback names are answered, with any port."""
    assert OPEN.check_origin(Credentials(host=host)) is None
    assert OPEN.identify(Credentials(host=host)) is LOCAL_USER


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3000", "localhost.evil.example", "", None, "[::2]:80"])
def test_a_foreign_name_for_this_machine_is_refused_without_a_key(host: str | None) -> None:
    """A name that somebody pointed here (DNS rebinding) doesn't open the door."""
    assert isinstance(OPEN.check_origin(Credentials(host=host)), ForbiddenOriginError)


@pytest.mark.parametrize(
    ("host", "origin", "is_allowed"),
    [
        ("localhost:3000", "http://localhost:3000", True),
        ("localhost:3000", "http://localhost:5173", False),
        ("localhost:3000", "https://evil.example", False),
        ("localhost:3000", "null", False),
        ("api.example", "https://app.example", True),
        ("api.example", "https://app.example.evil", False),
    ],
)
def test_only_own_and_named_origins_may_come_in(host: str, origin: str, *, is_allowed: bool) -> None:
    """Another site's page can't open our WebSocket or post to us."""
    refusal = KEYED.check_origin(Credentials(host=host, origin=origin))
    assert (refusal is None) == is_allowed


def test_the_key_comes_as_bearer_or_as_a_subprotocol() -> None:
    """Programs send a header; a browser's WebSocket can't, so it offers a subprotocol."""
    encoded = base64.urlsafe_b64encode(b"s3cret").decode().rstrip("=")
    assert KEYED.identify(Credentials(authorization="Bearer s3cret")) is KEY_HOLDER
    assert KEYED.identify(Credentials(subprotocols=["runcast.v1", f"runcast.bearer.{encoded}"])) is KEY_HOLDER


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials(),
        Credentials(authorization="Bearer wrong"),
        Credentials(authorization="Basic s3cret"),
        Credentials(authorization="Bearer é"),
        Credentials(subprotocols=["runcast.bearer.!!!"]),
        Credentials(subprotocols=["runcast.bearer.é"]),
    ],
)
def test_no_key_or_a_wrong_one_is_refused(credentials: Credentials) -> None:
    """Whatever is sent in its place."""
    assert isinstance(KEYED.identify(credentials), UnauthorizedError)
