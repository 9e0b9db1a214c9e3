"""A real SMTP server on loopback that keeps what it is given; by aiosmtpd.

async with mail_server() as mail:
    settings = Settings(smtp_url=mail.url, smtp_sender="ada@example.com")
    ...
    assert mail.received[0].message["subject"] == "Hello"
"""

import asyncio
import contextlib
import email.policy
import ssl
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, Final

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER: Final = "ada"
PASSWORD: Final = "mail-password-for-tests"


@dataclass(frozen=True)
class ReceivedMail:
    """A mail as it came in, and whether its connection was private."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    is_tls: bool


@dataclass
class MailServer:
    """A running server: where it is, how it answers, and all that it took."""

    url: str = ""
    received: list[ReceivedMail] = field(default_factory=list)
    refused: frozenset[str] = frozenset()  # recipients that are not known here
    answer: str = "250 OK"
    breaks_off: bool = False  # whether it goes away once it has the whole mail

    async def handle_RCPT(  # noqa: N802 - the name that aiosmtpd calls
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        del server, session, rcpt_options
        if address in self.refused:
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.breaks_off:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
            return ""
        if self.answer.startswith("2"):
            message = email.message_from_bytes(_bytes(envelope.content), policy=email.policy.SMTP)
            assert isinstance(message, EmailMessage)
            is_tls = session.ssl is not None
            self.received.append(ReceivedMail(str(envelope.mail_from), list(envelope.rcpt_tos), message, is_tls))
        return self.answer


@contextlib.asynccontextmanager
async def mail_server(
    *, starttls: ssl.SSLContext | None = None, tls: ssl.SSLContext | None = None, needs_login: bool = False
) -> AsyncIterator[MailServer]:
    """Serve on a free port. `tls` is from the first byte, `starttls` is offered and then required."""
    mail = MailServer()

    def create() -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a login without STARTTLS is no good idea
            return SMTP(
                mail,
                hostname="mail.test",
                tls_context=starttls,
                require_starttls=starttls is not None,
                authenticator=_authenticate if needs_login else None,
                auth_required=needs_login,
                auth_require_tls=starttls is not None,
            )

    listener = await asyncio.get_running_loop().create_server(create, "127.0.0.1", 0, ssl=tls)
    login = f"{USER}:{PASSWORD}@" if needs_login else ""
    mail.url = f"{'smtps' if tls else 'smtp'}://{login}127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield mail
    finally:
        listener.close()


def _authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, login: Any) -> AuthResult:
    is_right = isinstance(login, LoginPassword) and (login.login, login.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_right, handled=False)


def _bytes(content: bytes | str | None) -> bytes:
    assert isinstance(content, bytes)
    return content
