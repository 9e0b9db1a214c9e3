"""The e-mail tool against a real SMTP server."""

import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from runcast.agent.inputs import Email
from runcast.agent.tools.email import EmailTool
from runcast.errors import ConfigurationError, OutcomeUnknownError, ServiceRefusedError, ToolError
from runcast.tools import Risk
from tests.support import mail_server as mail
from tests.support.certificate import Certificate, make_certificate

SENDER = "Ada <ada@example.com>"


async def send(url: str | None, *to: str, tls: ssl.SSLContext | None = None, **given: Any) -> Any:
    tool = EmailTool(url=url, sender=SENDER, tls=tls)
    given = {"text": "Grüße,\nAda", **given}
    return await tool.call(Email(to=to or ("bob@example.com",), **given), lambda *_: None)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """One that only these tests trust."""
    return make_certificate(Path(tmp_path_factory.mktemp("tls")))


async def test_a_mail_is_handed_over_once() -> None:
    """It arrives with sender, recipients, subject and text as they were given."""
    async with mail.mail_server() as server:
        output = await send(server.url, "bob@example.com", "cy@example.com", subject="Überraschung")
    (received,) = server.received
    assert (received.sender, received.recipients) == ("ada@example.com", ["bob@example.com", "cy@example.com"])
    assert (received.message["from"], received.message["subject"]) == (SENDER, "Überraschung")
    assert received.message.get_content() == "Grüße,\r\nAda\r\n"
    assert output == {
        "dryRun": False,
        "from": SENDER,
        "to": ["bob@example.com", "cy@example.com"],
        "subject": "Überraschung",
    }


async def test_the_first_line_is_the_subject_if_there_is_none() -> None:
    """A text without a subject has one all the same, which can't bring in a header."""
    async with mail.mail_server() as server:
        await send(server.url, text="Lunch?\r\nBcc: eve@example.com")
    assert (server.received[0].message["subject"], server.received[0].message["bcc"]) == ("Lunch?", None)


async def test_without_a_server_it_is_a_dry_run() -> None:
    """Nothing is sent, and the output says what would have been."""
    output = await send(None, subject="Hi")
    assert output == {
        "dryRun": True,
        "from": SENDER,
        "to": ["bob@example.com"],
        "subject": "Hi",
        "text": "Grüße,\nAda",
    }
    assert EmailTool(url=None, sender=None).risk_of(Email(to=("a@b.example",), text="x")) is Risk.NONE


@pytest.mark.parametrize("kind", ["tls", "starttls"])
async def test_a_password_travels_in_tls(kind: str, certificate: Certificate) -> None:
    """By TLS from the first byte, or by STARTTLS, the login works and the mail arrives."""
    given: dict[str, Any] = {kind: certificate.server_context()}
    async with mail.mail_server(needs_login=True, **given) as server:
        await send(server.url, tls=certificate.client_context())
    assert server.received[0].is_tls is (kind == "starttls")  # aiosmtpd tells of STARTTLS only


async def test_a_certificate_that_is_not_trusted_ends_it(certificate: Certificate) -> None:
    """Nothing is sent to somebody who can't say who he is."""
    async with mail.mail_server(tls=certificate.server_context()) as server:
        with pytest.raises(ToolError, match="nothing was sent"):
            await send(server.url)
    assert server.received == []


async def test_a_wrong_password_is_refused_and_told_nowhere() -> None:
    """The message has the server's code and words, and neither name nor password."""
    async with mail.mail_server(needs_login=True) as server:
        with pytest.raises(ServiceRefusedError, match="refused with code 535") as caught:
            await send(server.url.replace(mail.PASSWORD, "wrong-secret"))
    assert "wrong-secret" not in str(caught.value)
    assert not caught.value.is_retryable


async def test_recipients_that_are_not_known() -> None:
    """If none is known nothing was sent; if some are, the output tells of the others."""
    async with mail.mail_server() as server:
        server.refused = frozenset({"nobody@example.com"})
        with pytest.raises(ServiceRefusedError, match="refused every recipient: “550 no such user here”"):
            await send(server.url, "nobody@example.com")
        output = await send(server.url, "nobody@example.com", "bob@example.com")
    assert output["refused"] == {"nobody@example.com": "550 no such user here"}
    assert [each.recipients for each in server.received] == [["bob@example.com"]]


async def test_a_server_that_is_busy_may_take_it_later() -> None:
    """A code below 500 says that trying again makes sense."""
    async with mail.mail_server() as server:
        server.answer = "451 try later"
        with pytest.raises(ServiceRefusedError, match="code 451: “try later”; trying again later may work") as caught:
            await send(server.url)
    assert caught.value.is_retryable


async def test_a_server_that_goes_away_leaves_the_outcome_open() -> None:
    """When the connection breaks after the mail was handed over, nobody knows."""
    async with mail.mail_server() as server:
        server.breaks_off = True
        with pytest.raises(OutcomeUnknownError, match="perhaps after it took the mail"):
            await send(server.url)


async def test_a_server_that_is_not_there() -> None:
    """Without a connection nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ToolError, match=r"can't be reached .*; nothing was sent"):
        await send(f"smtp://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("url", "sender", "reason"),
    [
        ("http://secret", SENDER, "must be smtps://"),
        ("smtp://secret@host", SENDER, "a user without a password"),
        ("smtp://host", None, "RUNCAST_SMTP_SENDER must be, too"),
        ("smtp://host", "Ada\nBcc: x@y", "must look like"),
    ],
)
def test_settings_that_can_not_work(url: str, sender: str | None, reason: str) -> None:
    """Half a configuration is refused before any run, in words that don't hold it."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        EmailTool(url=url, sender=sender)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["ada", "ada@", "a b@example.com", "a@example.com\nBcc: b@c", "<a@b.c>", "a@b,c@d"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """An address can't bring in a second one, or a header."""
    with pytest.raises(ValueError, match="not an e-mail address"):
        Email(to=(address,), text="x")


def test_an_output_is_json() -> None:
    """Recipients are shown as a list."""
    assert json.loads(json.dumps(Email(to=("a@b.example",), text="x").show()))["to"] == ["a@b.example"]
