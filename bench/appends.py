"""How an event gets into a run's log: by the product's own script, so that what it costs Redis is in the figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import redis

import runcast
from bench.errors import VoidError

_SCRIPT: Final = Path(runcast.__file__).parent / "backends" / "lua" / "append.lua"
_RETENTION_SECONDS: Final = "3600"
_MAX_EVENTS: Final = "100000"
FIRST_SEQ: Final = 2
"""Of what is published: a run's first event is its status `queued`."""


def publish_words(client: "redis.Redis") -> list[str]:
    """The command that appends one of the load's events to its run's log."""
    return _append_words(_load_script(client), "%r", seq="%c", attempt="1", is_first=False, event="%e")


def append_first_events(client: "redis.Redis", first_events: Mapping[str, bytes]) -> None:
    """Begin the logs of new runs, each with its first event.

    Raises:
        VoidError: the log doesn't take it.

    """
    script, pipe = _load_script(client), client.pipeline(transaction=False)
    for run_id, event in first_events.items():
        _, _, keys, *words = _append_words(script, run_id, seq="1", attempt="0", is_first=True, event=event)
        pipe.evalsha(script, int(keys), *words)
    said = {answer if isinstance(answer, bytes) else answer[0] for answer in pipe.execute()}
    if said - {b"appended"}:
        raise VoidError("the log doesn't take the first event of a run")


def _load_script(client: "redis.Redis") -> str:
    digest: Any = client.script_load(_SCRIPT.read_text())
    return str(digest)


def _append_words(script: str, run_id: str, *, seq: str, attempt: str, is_first: bool, event: Any) -> list[Any]:
    """A run's first event is a status, and with it begins the time for which the log is kept; as with a worker, not
    again within the minute.
    """
    flag = "1" if is_first else "0"
    return [
        "EVALSHA",
        script,
        "1",
        f"{{run:{run_id}}}:log",
        f"run:{run_id}",
        "runs",
        _RETENTION_SECONDS,
        _MAX_EVENTS,
        flag,
        seq,
        attempt,
        flag,
        event,
    ]
