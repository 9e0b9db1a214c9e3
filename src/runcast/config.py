"""Settings: the only reader of the environment. Everything else gets what it needs as an argument."""

import difflib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from runcast.errors import ConfigurationError

ENV_PREFIX = "RUNCAST_"

DATABASE_FILE = "runcast.db"
"""The SQLite database's name in the data dir."""

ARTIFACTS_FOLDER = "artifacts"
"""Where artifacts are kept in the data dir."""

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})


class Settings(BaseSettings):
    """Every setting of Runcast. Unless an alias is named, the variable is `RUNCAST_` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True, populate_by_name=True)

    # Where things are
    redis_url: str | None = Field(
        default=None, validation_alias="REDIS_URL", description="Redis ≥ 7.0; without it `up` starts its own."
    )
    database_url: str | None = Field(
        default=None,
        validation_alias="DATABASE_URL",
        description="`postgresql://…` or `sqlite:///…`; without it SQLite in the data dir.",
    )
    data_dir: Path = Field(default=Path(".runcast"), description="Where embedded Redis, SQLite and artifacts are.")

    artifacts_url: str | None = Field(
        default=None, description="`s3://bucket/prefix` or `file:///path`; without it a folder in the data dir."
    )

    # Who may come in
    host: str = Field(default="127.0.0.1", description="Address to bind; any but loopback needs an API key.")
    port: int = Field(default=3000, ge=0, le=65535, description="Port of API, gateway and console; 0 picks a free one.")
    web_port: int = Field(default=5173, ge=0, le=65535, description="A second port for the same; 0 turns it off.")
    api_key: SecretStr | None = Field(
        default=None, description="If set, every request needs it as a Bearer token; ASCII, no spaces."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Host names answered besides loopback and `host`, separated by commas."
    )
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Origins allowed besides the server's own, separated by commas."
    )

    # Where the commands `run`, `watch` and `stats` find a server
    url: str = Field(default="http://127.0.0.1:3000", description="Server that the commands of a client talk to.")
    headers: SecretStr | None = Field(
        default=None, description="Headers that they send, such as `x-user: ada`; one per line."
    )

    # Gateways
    gateways: int = Field(default=1, ge=1, le=64, description="Gateway processes on one port, started by `up`.")

    # Work
    workers: int = Field(default=1, ge=1, le=64, description="Worker processes that `up` starts.")
    concurrency: int = Field(default=50, ge=1, le=10_000, description="Runs one worker executes at once.")
    lease_seconds: float = Field(default=6, ge=1, description="How long a silent worker keeps its runs.")
    max_attempts: int = Field(
        default=3, ge=1, description="How often a run's worker may be lost before the run is failed."
    )
    park_seconds: float = Field(
        default=60, ge=0, description="How long a waiting run is held by its worker before it is parked."
    )
    cancel_seconds: float = Field(
        default=30, ge=0, description="How long a runner that is told to stop may clean up before it is left to itself."
    )
    delta_ms: float = Field(
        default=10, ge=0, le=1_000, description="Window in which a message's bits are joined at the source; 0: none."
    )
    shutdown_seconds: float = Field(default=10, ge=0, description="How long a stopping worker lets runs finish.")
    reload_grace_seconds: float = Field(
        default=3_600, ge=0, description="How long runs may finish on the code that a reload has replaced."
    )

    # Limits
    max_prompt_chars: int = Field(default=20_000, ge=1, description="Longest prompt, in characters.")
    max_body_bytes: int = Field(default=1_048_576, ge=1024, description="Largest request body, in bytes.")
    max_event_bytes: int = Field(default=1_048_576, ge=1024, description="Largest event, in bytes of JSON.")
    max_artifact_bytes: int = Field(default=104_857_600, ge=1024, description="Largest artifact, in bytes.")
    max_artifacts: int = Field(default=1_000, ge=1, description="Artifacts of one run.")
    max_watchers: int = Field(default=10_000, ge=1, description="Connections one gateway accepts at once.")
    log_retention_seconds: int = Field(default=86_400, ge=1, description="How long Redis keeps an ended run's log.")
    log_max_events: int = Field(default=100_000, ge=100, description="Events of one run that Redis keeps.")
    tail_bytes: int = Field(default=262_144, ge=1024, description="Recent bytes of a run that a gateway keeps.")
    transport: Literal["redis", "polling"] = Field(
        default="redis", description="`polling`: gateways read the database at intervals instead of listening to Redis."
    )
    poll_interval_ms: int = Field(
        default=2_000, ge=50, description="Time between two looks into the database, when polling or without Redis."
    )
    coalesce_ms: float = Field(
        default=0, ge=0, le=1_000, description="Window in which a run's events are joined; 0 is one turn of the loop."
    )
    heartbeat_seconds: float = Field(default=5, gt=0, le=5, description="Time between two heartbeats.")

    # The built-in tools; without credentials a tool is a dry run
    linkedin_access_token: SecretStr | None = Field(default=None, description="OAuth token with `w_member_social`.")
    linkedin_author: str | None = Field(default=None, description="URN that posts: `urn:li:person:…`.")
    linkedin_url: str = Field(default="https://api.linkedin.com", description="Base address of LinkedIn's API.")
    linkedin_version: str = Field(
        default="202606", pattern=r"^\d{6}$", description="`LinkedIn-Version` header, YYYYMM; lasts about a year."
    )
    slack_webhook_url: SecretStr | None = Field(default=None, description="Slack incoming webhook.")
    slack_bot_token: SecretStr | None = Field(default=None, description="Bot token with `chat:write`: any channel.")
    slack_url: str = Field(default="https://slack.com/api", description="Base address of Slack's Web API.")
    smtp_url: SecretStr | None = Field(
        default=None, description="Mail server: `smtps://user:password@host`, or `smtp://…` for STARTTLS."
    )
    smtp_sender: str | None = Field(default=None, description="Address that e-mail is sent from.")
    http_allow_private: bool = Field(
        default=False, description="Let the HTTP and web page tools reach loopback and private addresses."
    )

    # A model for prompts; without one the grammar of the planner is all that is understood
    model: str | None = Field(
        default=None, description="`openai:NAME`, `anthropic:NAME`, or a name that `RUNCAST_MODEL_URL` knows."
    )
    model_url: str | None = Field(
        default=None, description="Base address of an endpoint that speaks the API of the model's maker."
    )
    model_api_key: SecretStr | None = Field(default=None, description="The model's key; a local one may need none.")
    model_max_steps: int = Field(default=20, ge=1, le=200, description="How often one run asks the model.")
    model_max_tokens: int = Field(default=4_096, ge=16, description="Longest answer of the model, in tokens.")
    model_timeout_seconds: float = Field(default=120, gt=0, description="How long one answer of the model may take.")
    tool_approval: Literal["risky", "never"] = Field(
        default="risky", description="`risky`: people are asked before a model's call that writes or publishes."
    )
    mcp_servers: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="MCP servers, URLs or commands: a JSON list, or separated by commas."
    )

    # Seeing
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto", description="`auto` is text on a terminal and JSON elsewhere."
    )

    @field_validator("allowed_hosts", "allowed_origins", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("mcp_servers", mode="before")
    @classmethod
    def _split_servers(cls, value: object) -> object:
        if isinstance(value, str) and value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise PydanticCustomError("mcp_servers", "that is not a JSON list of texts") from None
        return cls._split_commas(value)

    @field_validator("redis_url")
    @classmethod
    def _check_redis_scheme(cls, value: str | None) -> str | None:
        if value and urlsplit(value).scheme not in REDIS_SCHEMES:
            raise PydanticCustomError("redis_url", "give one of " + ", ".join(f"{name}://" for name in REDIS_SCHEMES))
        return value

    @field_validator("artifacts_url")
    @classmethod
    def _check_artifacts_place(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "file:///")
        is_place = (parts.scheme == "s3" and parts.netloc) or (parts.scheme == "file" and not parts.netloc)
        if not is_place or parts.query or parts.fragment:
            raise PydanticCustomError("artifacts_url", "give s3://bucket/prefix or file:///path")
        return value

    @field_validator("api_key")
    @classmethod
    def _check_key_can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        # It travels in a header, where clients send other characters in different ways or not at all.
        if value is not None and any(not "!" <= character <= "~" for character in value.get_secret_value()):
            raise PydanticCustomError("api_key", "only ASCII letters, digits and punctuation can be sent as a key")
        return value

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, value: SecretStr | None) -> SecretStr | None:
        lines = value.get_secret_value().splitlines() if value is not None else []
        if any(line.strip() and ":" not in line for line in lines):
            raise PydanticCustomError("headers", "give `name: value`, one per line")
        return value

    @property
    def client_headers(self) -> dict[str, str]:
        """What the commands of a client send besides the key."""
        lines = self.headers.get_secret_value().splitlines() if self.headers is not None else []
        pairs = (line.partition(":") for line in lines if line.strip())
        return {name.strip(): value.strip() for name, _, value in pairs}

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """The environment's settings, with those given that are not None in their stead.

        Raises:
            ConfigurationError: a value doesn't fit; the message names the setting and the reason.

        """
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(f"setting {cls._variable_of(str(first['loc'][0]))}: {first['msg']}") from None

    @classmethod
    def _variable_of(cls, place: str) -> str:
        """The environment's name of a setting, which pydantic calls by its field or by its alias."""
        field = cls.model_fields.get(place)
        if field is None:
            return place
        return str(field.validation_alias or f"{ENV_PREFIX}{place.upper()}")

    @classmethod
    def find_mistyped(cls, names: Iterable[str]) -> Iterator[str]:
        """For each variable that begins like a setting but is none, a sentence that names the nearest setting."""
        known = {cls._variable_of(field) for field in cls.model_fields}
        for name in sorted(names):
            word = name.upper()  # as pydantic reads the environment
            if not word.startswith(ENV_PREFIX) or word in known:
                continue
            bare = word.removeprefix(ENV_PREFIX)
            near = [bare] if bare in known else difflib.get_close_matches(word, sorted(known), n=1, cutoff=0)
            yield f"{name} is not a setting and is ignored; the nearest one is {near[0]}"

    @property
    def is_exposed(self) -> bool:
        """Whether other machines can reach the server."""
        return self.host not in LOOPBACK_HOSTS

    def require_key_if_exposed(self) -> None:
        """Refuse to serve other machines without a key.

        Raises:
            ConfigurationError: the address is not loopback and there is no API key.

        """
        if self.is_exposed and not (self.api_key and self.api_key.get_secret_value()):
            raise ConfigurationError(
                f"refusing to listen on {self.host} without a key: set RUNCAST_API_KEY, or use --host 127.0.0.1"
            )

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{(self.data_dir / DATABASE_FILE).resolve()}"

    @property
    def artifacts(self) -> str:
        """The URL of the place where artifacts are kept."""
        return self.artifacts_url or (self.data_dir / ARTIFACTS_FOLDER).resolve().as_uri()
