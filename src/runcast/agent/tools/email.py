"""Sending e-mail by SMTP.

Without a server nothing is sent: the output says what would have been. A mail is handed over once, whatever comes back.
A password travels only inside TLS, unless the server is on this machine.
"""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from typing import Any, Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit

import aiosmtplib

from runcast.agent.inputs import Email
from runcast.agent.tools.connection import CONNECT_SECONDS, LOOPBACK_HOSTS, SILENCE_SECONDS, redact, tls_context
from runcast.errors import ConfigurationError, OutcomeUnknownError, ServiceRefusedError, ToolError
from runcast.tools import Report, Risk

_PORTS: Final[Mapping[str, int]] = {"smtp": 587, "smtps": 465}
_SUBJECT_CHARS: Final = 80
_EXAMPLE_SENDER: Final = "(RUNCAST_SMTP_SENDER)"
_LASTING: Final = 500  # from this code on the answer stays no


class MailServer(NamedTuple):
    """Where mail is handed over."""

    host: str
    port: int
    is_tls: bool  # from the first byte; else by STARTTLS
    user: str | None
    password: str | None

    @classmethod
    def read(cls, text: str) -> Self:
        """Take a setting: `smtps://user:password@host`, or `smtp://…` for STARTTLS.

        Raises:
            ConfigurationError: it is something else. The message doesn't repeat it, for it may hold the password.

        """
        try:
            url = urlsplit(text)
            port = url.port or _PORTS[url.scheme]
        except (ValueError, KeyError):
            raise ConfigurationError("RUNCAST_SMTP_URL must be smtps://… or smtp://user:password@host:port") from None
        if not url.hostname or bool(url.username) != bool(url.password):
            raise ConfigurationError("RUNCAST_SMTP_URL names no host, or a user without a password")
        user, password = (unquote(part) if part else None for part in (url.username, url.password))
        return cls(url.hostname, port, url.scheme == "smtps", user, password)


class EmailTool:
    """Sends as one sender."""

    def __init__(self, *, url: str | None, sender: str | None, tls: ssl.SSLContext | None = None) -> None:
        """Take the settings as they are.

        Raises:
            ConfigurationError: there is a server without a sender, or something has the wrong form.

        """
        self._server: Final = MailServer.read(url.strip()) if url else None
        if self._server and not sender:
            raise ConfigurationError("RUNCAST_SMTP_URL is set, so RUNCAST_SMTP_SENDER must be, too")
        if sender and ("@" not in sender or not sender.isprintable()):
            raise ConfigurationError("RUNCAST_SMTP_SENDER must look like name@example.com or Name <name@example.com>")
        self._sender: Final = sender or _EXAMPLE_SENDER
        self._tls: Final = tls

    def risk_of(self, tool_input: Email) -> Risk:  # noqa: ARG002 - the same for every mail
        """See `Tool.risk_of`."""
        return Risk.PUBLISH if self._server else Risk.NONE

    def describe(self, tool_input: Email) -> str:
        """See `Tool.describe`."""
        return f"e-mailed {tool_input.to[0]}" if len(tool_input.to) == 1 else f"e-mailed {len(tool_input.to)} people"

    async def call(self, tool_input: Email, report: Report) -> Mapping[str, Any]:  # noqa: ARG002 - one message
        """See `Tool.call`."""
        subject = tool_input.subject or _first_line(tool_input.text)
        about = {"from": self._sender, "to": list(tool_input.to), "subject": subject}
        if self._server is None:
            return {"dryRun": True, **about, "text": tool_input.text}
        refused = await self._send(self._server, _compose(self._sender, tool_input, subject), tool_input.to)
        return {"dryRun": False, **about, **({"refused": refused} if refused else {})}

    async def _send(self, server: MailServer, message: EmailMessage, to: tuple[str, ...]) -> dict[str, str]:
        """Hand a message over; the answer holds those whom the server didn't take, and why."""
        client = self._connect(server)
        secrets = (server.password or "", server.user or "")
        try:
            with _translate(server, secrets, is_handed_over=False):
                await client.connect()
            with _translate(server, secrets, is_handed_over=True):
                refused, _ = await client.send_message(message, recipients=list(to))
        finally:
            await _leave(client)
        return {address: redact(f"{answer.code} {answer.message}", *secrets) for address, answer in refused.items()}

    def _connect(self, server: MailServer) -> aiosmtplib.SMTP:
        is_near = server.host in LOOPBACK_HOSTS
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.is_tls,
            # Required, or whoever is in between could take the offer away and read the password.
            start_tls=False if server.is_tls else (None if is_near else True),
            tls_context=self._tls or tls_context(),
            timeout=SILENCE_SECONDS,
        )


def _first_line(text: str) -> str:
    line = " ".join(text.strip().partition("\n")[0].split())
    printable = "".join(char for char in line if char.isprintable())
    return printable if len(printable) <= _SUBJECT_CHARS else f"{printable[: _SUBJECT_CHARS - 1]}…"


def _compose(sender: str, tool_input: Email, subject: str) -> EmailMessage:
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(tool_input.to)
    message["Subject"] = subject
    message.set_content(tool_input.text)
    return message


@contextmanager
def _translate(server: MailServer, secrets: tuple[str, ...], *, is_handed_over: bool) -> Iterator[None]:
    """Say in our errors what the library says in its own."""
    name = f"the mail server {server.host[:100]}"
    try:
        yield
    except aiosmtplib.SMTPRecipientsRefused as error:
        said = "; ".join(redact(f"{each.code} {each.message}", *secrets) for each in error.recipients)
        raise ServiceRefusedError(f"{name} refused every recipient: “{said}”; nothing was sent") from None
    except aiosmtplib.SMTPResponseException as error:
        is_retryable = error.code < _LASTING
        advice = "trying again later may work" if is_retryable else "trying again as it is will not help"
        said = redact(error.message, *secrets)
        raise ServiceRefusedError(
            f"{name} refused with code {error.code}: “{said}”; {advice}", is_retryable=is_retryable
        ) from None
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
        kind = type(error).__name__
        if not is_handed_over:
            raise ToolError(f"{name} can't be reached ({kind}); nothing was sent", is_retryable=True) from None
        raise OutcomeUnknownError(f"{name} broke off ({kind}), perhaps after it took the mail: look first") from None


async def _leave(client: aiosmtplib.SMTP) -> None:
    with suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
        async with asyncio.timeout(CONNECT_SECONDS):
            await client.quit()
    client.close()
