"""The tools of the prompt runner, and which of them there are under given settings."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import SecretStr

from runcast.agent.inputs import (
    CalendarEvent,
    Email,
    HttpRequest,
    LinkedInPost,
    Pause,
    SlackMessage,
    ToolInput,
    WebPage,
)
from runcast.agent.tools.base import BuiltInTool, Tool
from runcast.agent.tools.calendar import CalendarTool
from runcast.agent.tools.email import EmailTool
from runcast.agent.tools.http import HttpTool
from runcast.agent.tools.linkedin import LinkedInTool
from runcast.agent.tools.slack import SlackTool
from runcast.agent.tools.slack_bot import SlackBot
from runcast.agent.tools.wait import WaitTool
from runcast.agent.tools.webpage import WebPageTool
from runcast.config import Settings

_INPUTS: Final[tuple[type[ToolInput], ...]] = (
    LinkedInPost,
    SlackMessage,
    Email,
    CalendarEvent,
    WebPage,
    HttpRequest,
    Pause,
)


def create_toolbox(settings: Settings) -> Mapping[str, Tool[Any]]:
    """Every tool, under the name that plans call it by.

    Raises:
        ConfigurationError: a tool's settings can't work.

    """
    allow_private, max_event_bytes = settings.http_allow_private, settings.max_event_bytes
    return {
        "linkedin": LinkedInTool(
            access_token=_reveal(settings.linkedin_access_token),
            author=settings.linkedin_author,
            base_url=settings.linkedin_url,
            version=settings.linkedin_version,
        ),
        "slack": SlackTool(webhook_url=_reveal(settings.slack_webhook_url), bot=_create_bot(settings)),
        "email": EmailTool(url=_reveal(settings.smtp_url), sender=settings.smtp_sender),
        "calendar": CalendarTool(),
        "read": WebPageTool(allow_private=allow_private, max_event_bytes=max_event_bytes),
        "http": HttpTool(allow_private=allow_private, max_event_bytes=max_event_bytes),
        "wait": WaitTool(),
    }


def offer_toolbox(toolbox: Mapping[str, Tool[Any]]) -> Iterator[BuiltInTool]:
    """The same tools, as models are offered them."""
    return (BuiltInTool(input_class, toolbox[input_class.tool]) for input_class in _INPUTS)


def _create_bot(settings: Settings) -> SlackBot | None:
    token = (_reveal(settings.slack_bot_token) or "").strip()
    return SlackBot(token=token, base_url=settings.slack_url) if token else None


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
