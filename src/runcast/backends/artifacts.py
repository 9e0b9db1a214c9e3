"""The artifact store: a folder, or a bucket of an S3-compatible service. The only module that knows obstore.

A folder's file is written under another name and renamed when it is whole; a bucket shows an object once its upload
is complete. Reading is done by ranges, so a slow reader holds no connection and no file open.

A bucket's region, endpoint and credentials come from the usual variables (`AWS_REGION`, `AWS_ENDPOINT_URL`,
`AWS_ACCESS_KEY_ID`, …) or from the machine's role, as the library finds them.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from runcast.errors import ConfigurationError, UnavailableError

_CHUNK_BYTES: Final = 5 * 1024 * 1024  # of an upload in parts; S3 takes no smaller ones
_CONCURRENT_CHUNKS: Final = 4
_REQUEST_SECONDS: Final = 30
_RETRIES: Final = 3
_RETRY_SECONDS: Final = 15
_MAX_SHOWN_CHARS: Final = 300  # of what the library says went wrong


def open_artifacts(url: str) -> "ObjectArtifactStore":
    """The store at `file:///path` or `s3://bucket/prefix`. A folder that isn't there is made; a bucket isn't.

    Raises:
        ConfigurationError: there can't be one at this place.

    """
    try:
        return ObjectArtifactStore(_open(url))
    except (BaseError, ValueError, OSError) as error:
        raise ConfigurationError(f"setting RUNCAST_ARTIFACTS_URL: {_shown(error)}") from None


class ObjectArtifactStore:
    """See `ports.ArtifactStore`."""

    def __init__(self, store: LocalStore | S3Store) -> None:
        self._store: Final = store

    async def put(self, place: str, data: bytes | Iterator[bytes]) -> None:
        """See `ArtifactStore.put`."""
        if isinstance(data, bytes):
            with _translated():
                await obstore.put_async(
                    self._store, place, data, chunk_size=_CHUNK_BYTES, max_concurrency=_CONCURRENT_CHUNKS
                )
        else:
            await self._put_chunks(place, _Chunks(data))

    async def read(self, place: str, start: int, end: int) -> bytes | None:
        """See `ArtifactStore.read`."""
        with _translated():
            try:
                if start == end:  # the library refuses an empty range
                    await obstore.head_async(self._store, place)
                    return b""
                return bytes(await obstore.get_range_async(self._store, place, start=start, end=end))
            except FileNotFoundError:
                return None

    async def delete_run(self, run_id: str) -> None:
        """See `ArtifactStore.delete_run`."""
        with _translated():
            async for page in obstore.list(self._store, prefix=run_id):
                for found in page:
                    await self._delete(found["path"])

    async def _put_chunks(self, place: str, chunks: "_Chunks") -> None:
        """Cancelling the library's future leaves its writing alone: chunks that end in an error make it clean up."""
        putting = asyncio.ensure_future(
            obstore.put_async(
                self._store,
                place,
                chunks,
                use_multipart=True,
                chunk_size=_CHUNK_BYTES,
                max_concurrency=_CONCURRENT_CHUNKS,
            )
        )
        try:
            with _translated(own=chunks):
                await asyncio.shield(putting)
        except asyncio.CancelledError:
            chunks.is_stopped = True
            await asyncio.wait([putting])
            if putting.cancelled() or putting.exception() is None:
                await self._delete(place)
            raise

    async def _delete(self, place: str) -> None:
        try:
            await obstore.delete_async(self._store, place)
        except FileNotFoundError:
            return  # somebody else was faster


class _Chunks:
    """Chunks on their way: they can be stopped from another thread, and what they raise is known as theirs."""

    def __init__(self, source: Iterator[bytes]) -> None:
        self._source: Final = source
        self.is_stopped = False
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.is_stopped:
            raise InterruptedError("the upload was stopped")
        try:
            return next(self._source)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise


def _open(url: str) -> LocalStore | S3Store:
    parts = urlsplit(url)
    if parts.scheme == "file":
        return LocalStore(unquote(parts.path), automatic_cleanup=True, mkdir=True)
    return S3Store.from_url(
        url,
        client_options={"allow_http": True, "timeout": timedelta(seconds=_REQUEST_SECONDS)},  # an endpoint may be local
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
    )


@contextmanager
def _translated(*, own: _Chunks | None = None) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        if own is not None and own.error is not None:
            raise own.error from None
        raise UnavailableError(f"the artifact store can't be used (RUNCAST_ARTIFACTS_URL): {_shown(error)}") from error


def _shown(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:_MAX_SHOWN_CHARS]
