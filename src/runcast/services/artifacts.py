"""Artifacts: what runs make beside their output. Keeps the bytes, and says what a run's memo must hold to find them.

The bytes go to a place that nobody has used before. Only the run's memo names it: what a worker has written that died
before its memo was committed, or that is no longer the run's, is never served.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from runcast.core.artifacts import check_artifact_id, check_link, check_name, choose_content_type
from runcast.errors import ArtifactNotFoundError, InvalidInputError, TooLargeError
from runcast.ports import ArtifactStore, RunStore
from runcast.records import Artifact, Memo

_PIECE_BYTES: Final = 1024 * 1024  # read from a file at once, and sent to a reader at once
_KEY_PREFIX: Final = "artifact:"


class ArtifactService:
    """Adds artifacts, finds them by their run's memos, and reads them."""

    def __init__(
        self,
        *,
        artifacts: ArtifactStore,
        store: RunStore,
        make_token: Callable[[], str],
        max_bytes: int,
        max_per_run: int,
    ) -> None:
        self._artifacts: Final = artifacts
        self._store: Final = store
        self._make_token: Final = make_token  # unique in all processes, fit for a file's name
        self._max_bytes: Final = max_bytes
        self._max_per_run: Final = max_per_run

    async def add(
        self,
        run_id: str,
        artifact_id: str,
        name: str,
        *,
        data: bytes | None = None,
        path: Path | None = None,
        url: str | None = None,
        content_type: str | None = None,
        others: int = 0,
    ) -> Artifact:
        """Keep what one of the three sources has. `others` is how many artifacts the run has already.

        On return the bytes are kept; they can be fetched once `memo_of` the artifact is committed.

        Raises:
            InvalidInputError: name, source or type can't be used.
            TooLargeError: it passes the size limit, or the run has as many as it may.
            UnavailableError: the artifact store can't be reached.

        """
        check_artifact_id(artifact_id)
        check_name(name)
        if others >= self._max_per_run:
            raise TooLargeError(f"a run has up to {self._max_per_run} artifacts (RUNCAST_MAX_ARTIFACTS)")
        content_type = choose_content_type(name, content_type)
        if url is not None:
            check_link(url)
            return Artifact(id=artifact_id, name=name, content_type=content_type, url=url)
        place = f"{run_id}/{artifact_id}-{self._make_token()}"
        size, sha256 = await self._keep(place, data, path)
        return Artifact(
            id=artifact_id,
            name=name,
            content_type=content_type,
            url=_path_of(run_id, artifact_id),
            size=size,
            sha256=sha256,
            place=place,
        )

    async def get(self, run_id: str, artifact_id: str) -> Artifact:
        """An artifact of a run.

        Raises:
            ArtifactNotFoundError: the run has none with this id.

        """
        memos = await self._store.read_memos(run_id)
        value = memos.get(f"{_KEY_PREFIX}{artifact_id}")
        if value is None:
            raise ArtifactNotFoundError(run_id, artifact_id)
        return read_memo(run_id, artifact_id, value)

    async def read(self, run_id: str, artifact: Artifact, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but not including `end`, piece by piece as they are asked for.

        Raises:
            ArtifactNotFoundError: they are gone.
            UnavailableError: the artifact store can't be reached.

        """
        for at in range(start, max(end, start + 1), _PIECE_BYTES):  # an empty one is looked for, too
            piece = await self._artifacts.read(artifact.place or "", at, min(at + _PIECE_BYTES, end))
            if piece is None:
                raise ArtifactNotFoundError(run_id, artifact.id)
            yield piece

    async def delete_run(self, run_id: str) -> None:
        """Let go of all that a run has made."""
        await self._artifacts.delete_run(run_id)

    async def _keep(self, place: str, data: bytes | None, path: Path | None) -> tuple[int, str]:
        if data is not None:
            self._check_size(len(data))
            digest = await asyncio.to_thread(hashlib.sha256, data)
            await self._artifacts.put(place, data)
            return len(data), digest.hexdigest()
        if path is None:
            raise InvalidInputError("an artifact has one source: data, path or url", field="data")
        file = await asyncio.to_thread(_open, path)
        try:
            self._check_size(os.fstat(file.fileno()).st_size)  # it may still grow while it is read
            source = _Source(file, path, self._check_size)
            await self._artifacts.put(place, source.read())
        finally:
            file.close()
        return source.size, source.digest.hexdigest()

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise TooLargeError(
                f"the artifact passes the limit of {self._max_bytes:,} bytes (RUNCAST_MAX_ARTIFACT_BYTES)"
            )


class _Source:
    """A file that is read once: what was read is counted, and its checksum taken, on the way."""

    def __init__(self, file: IO[bytes], path: Path, check_size: Callable[[int], None]) -> None:
        self._file: Final = file
        self._path: Final = path
        self._check_size: Final = check_size
        self.size = 0
        self.digest: Final = hashlib.sha256()

    def read(self) -> Iterator[bytes]:
        try:
            while piece := self._file.read(_PIECE_BYTES):
                self.size += len(piece)
                self._check_size(self.size)
                self.digest.update(piece)
                yield piece
        except OSError as error:
            raise _unreadable(self._path, error) from error


def memo_of(artifact: Artifact) -> Memo:
    """What the run's memo must hold, for the artifact to be found."""
    value: dict[str, Any] = {"name": artifact.name, "contentType": artifact.content_type}
    if artifact.place is None:
        value["url"] = artifact.url
    else:
        value |= {"bytes": artifact.size, "sha256": artifact.sha256, "place": artifact.place}
    return Memo(f"{_KEY_PREFIX}{artifact.id}", value)


def read_memo(run_id: str, artifact_id: str, value: Mapping[str, Any]) -> Artifact:
    """The artifact that a memo's value tells of."""
    return Artifact(
        id=artifact_id,
        name=value["name"],
        content_type=value["contentType"],
        url=value.get("url") or _path_of(run_id, artifact_id),
        size=value.get("bytes"),
        sha256=value.get("sha256"),
        place=value.get("place"),
    )


def told_of(artifact: Artifact) -> dict[str, Any]:
    """The payload of the `artifact` event."""
    size = {} if artifact.size is None else {"bytes": artifact.size}
    return {
        "artifactId": artifact.id,
        "name": artifact.name,
        "contentType": artifact.content_type,
        **size,
        "url": artifact.url,
    }


def _path_of(run_id: str, artifact_id: str) -> str:
    return f"/runs/{run_id}/artifacts/{artifact_id}"


def _open(path: Path) -> IO[bytes]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe could hold up its reader for ever
            raise InvalidInputError(f"{path} is not a file", field="path")
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InvalidInputError:
    return InvalidInputError(f"{path} can't be read: {error.strerror or error}", field="path")
