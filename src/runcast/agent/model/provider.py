"""Which model is asked, by the settings, and what its maker's refusals mean. The key stands in no error or event."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple

import anthropic
import openai
from pydantic_ai.exceptions import AgentRunError, ModelAPIError, ModelHTTPError, UserError
from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

from runcast.agent.tools.connection import check_service_url, redact
from runcast.config import Settings
from runcast.errors import ConfigurationError, ModelError

_URLS: Final = {"openai": "https://api.openai.com/v1", "anthropic": "https://api.anthropic.com"}
_NO_KEY: Final = "none"  # for endpoints that need none: the libraries insist on one
_RETRIES: Final = 2  # the library's own, of requests that were refused for the moment
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERROR: Final = 500


class ModelChoice(NamedTuple):
    """What the settings name."""

    maker: str  # whose API is spoken
    name: str
    url: str
    key: str
    is_own_endpoint: bool

    @classmethod
    def read(cls, settings: Settings) -> "ModelChoice":
        """Take the settings.

        Raises:
            ConfigurationError: they name no model that can be asked.

        """
        text = (settings.model or "").strip()
        maker, _, name = text.partition(":")
        if maker not in _URLS or not name:
            if not settings.model_url:
                raise ConfigurationError(
                    "RUNCAST_MODEL must be openai:NAME or anthropic:NAME, or any name with RUNCAST_MODEL_URL"
                )
            maker, name = "openai", text  # most endpoints speak OpenAI's API, and some names hold a colon
        key = settings.model_api_key.get_secret_value().strip() if settings.model_api_key else ""
        if not key and not settings.model_url:
            raise ConfigurationError("RUNCAST_MODEL is set, so RUNCAST_MODEL_API_KEY must be, too")
        url = settings.model_url or _URLS[maker]
        if key:
            check_service_url(url, setting="RUNCAST_MODEL_URL")
        return cls(maker, name, url, key or _NO_KEY, bool(settings.model_url))


@asynccontextmanager
async def open_model(choice: ModelChoice, *, timeout_seconds: float) -> AsyncIterator[Model]:
    """The model, for as long as the block lasts."""
    if choice.maker == "anthropic":
        async with anthropic.AsyncAnthropic(
            api_key=choice.key, base_url=choice.url, timeout=timeout_seconds, max_retries=_RETRIES
        ) as client:
            yield AnthropicModel(choice.name, provider=AnthropicProvider(anthropic_client=client))
        return
    async with openai.AsyncOpenAI(
        api_key=choice.key, base_url=choice.url, timeout=timeout_seconds, max_retries=_RETRIES
    ) as client:
        provider = (
            OpenAICompatibleProvider("endpoint", openai_client=client)
            if choice.is_own_endpoint
            else OpenAIProvider(openai_client=client)
        )
        yield OpenAIChatModel(choice.name, provider=provider)


@contextmanager
def translate_failures(choice: ModelChoice) -> Iterator[None]:
    """Say in our errors what the libraries say in theirs."""
    try:
        yield
    except ModelHTTPError as error:
        is_retryable = error.status_code == _TOO_MANY_REQUESTS or error.status_code >= _SERVER_ERROR
        advice = "trying again later may work" if is_retryable else "trying again as it is will not help"
        said = redact(_words_of(error.body), choice.key)
        raise ModelError(
            f"{choice.name} refused with status {error.status_code}: “{said}”; {advice}", is_retryable=is_retryable
        ) from None
    except TimeoutError:
        raise ModelError(
            f"{choice.name} took longer than RUNCAST_MODEL_TIMEOUT_SECONDS for one answer", is_retryable=True
        ) from None
    except (ModelAPIError, openai.APIError, anthropic.APIError, OSError) as error:
        said = redact(str(error), choice.key)
        raise ModelError(f"{choice.name} can't be asked at {choice.url}: {said}", is_retryable=True) from None
    except (AgentRunError, UserError, ValueError) as error:
        said = redact(str(error), choice.key)
        raise ModelError(f"{choice.name} gave an answer that can't be used: {said}") from None


def _words_of(body: object) -> str:
    """What the maker says in its own words, wherever in its answer they stand."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        return str(message or body)
    return str(body or "no reason given")
