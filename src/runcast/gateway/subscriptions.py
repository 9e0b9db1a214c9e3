"""What a client says on a socket of many runs, and which statuses it wants to hear. Pure: text in, words out.

    {"type": "subscribe", "runId": "…", "after": "1-4"}
    {"type": "subscribe", "tag": "…"}
    {"type": "subscribe", "all": true}

and `unsubscribe` with the same keys. Exactly one of the three is named.
"""

from typing import Final, Literal

import msgspec

from runcast.errors import InvalidInputError
from runcast.events import START, Cursor
from runcast.gateway.frames import read_start

MAX_TAG_CHARS: Final = 64


class ClientFrame(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One frame of a client. After `read_client_frame` one of `run_id`, `tag` and `all` is set."""

    type: Literal["subscribe", "unsubscribe"]
    run_id: str | None = None
    tag: str | None = None
    all: bool = False
    after: str | None = None
    starting_after: str | None = None

    @property
    def start(self) -> Cursor:
        """Where a followed run begins."""
        return read_start(self.after, self.starting_after) or START


_decoder: Final = msgspec.json.Decoder(ClientFrame)


def read_client_frame(text: str) -> ClientFrame:
    """Read a frame.

    Raises:
        InvalidInputError: it isn't one; the message says why.

    """
    try:
        frame = _decoder.decode(text)
    except msgspec.DecodeError as error:  # the parent of ValidationError
        raise InvalidInputError(f"the frame: {error}") from None
    if [frame.run_id is not None, frame.tag is not None, frame.all].count(True) != 1:
        raise InvalidInputError('the frame: name one of "runId", "tag" and "all": true')
    if frame.run_id is None and (frame.after or frame.starting_after):
        raise InvalidInputError("the frame: only a run has a cursor; tags and all begin now", field="after")
    if frame.tag is not None and not 1 <= len(frame.tag) <= MAX_TAG_CHARS:
        raise InvalidInputError(f"the frame: a tag has 1 to {MAX_TAG_CHARS} characters", field="tag")
    frame.start  # noqa: B018 - a bad cursor is refused here, where the peer still knows which frame it was
    return frame


class Interests:
    """Whose statuses a socket hears: all, until its first frame says otherwise."""

    def __init__(self) -> None:
        self.has_all = True
        self.tags: set[str] = set()
        self._is_untold = True

    @property
    def is_any(self) -> bool:
        """Whether it hears any at all."""
        return self.has_all or bool(self.tags)

    def receive(self, frame: ClientFrame) -> None:
        """Take a frame into account."""
        if self._is_untold:
            self._is_untold = self.has_all = False
        is_wanted = frame.type == "subscribe"
        if frame.all:
            self.has_all = is_wanted
        elif frame.tag is not None:
            (self.tags.add if is_wanted else self.tags.discard)(frame.tag)
