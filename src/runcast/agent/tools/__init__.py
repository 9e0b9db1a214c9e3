"""The tools of the prompt runner, and which of them there are under given settings."""

from collections.abc import Mapping
from typing import Any

from runcast.agent.tools.base import Tool
from runcast.agent.tools.http import HttpTool
from runcast.agent.tools.linkedin import LinkedInTool
from runcast.agent.tools.slack import SlackTool
from runcast.agent.tools.wait import WaitTool
from runcast.config import Settings


def create_toolbox(settings: Settings) -> Mapping[str, Tool[Any]]:
    """Every tool, under the name that plans call it by.

    Raises:
        ConfigurationError: a tool's settings can't work.

    """
    token, webhook = settings.linkedin_access_token, settings.slack_webhook_url
    return {
        "linkedin": LinkedInTool(
            access_token=token.get_secret_value() if token else None,
            author=settings.linkedin_author,
            base_url=settings.linkedin_url,
            version=settings.linkedin_version,
        ),
        "slack": SlackTool(webhook_url=webhook.get_secret_value() if webhook else None),
        "http": HttpTool(allow_private=settings.http_allow_private, max_event_bytes=settings.max_event_bytes),
        "wait": WaitTool(),
    }
