"""Plain functions as runners: each runs in a thread of its own, with a context whose methods block instead of await.

A thread can't be interrupted: when the run is canceled a flag is set, and whatever the function calls on its run next
raises `RunCanceledError`.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from runcast.concurrency import run_in_thread
from runcast.context import Approval, ChildRun, RunContext
from runcast.errors import RunCanceledError
from runcast.messages import Message
from runcast.records import Artifact
from runcast.steps import as_awaited, as_blocking

T = TypeVar("T")


class SyncRunContext:
    """`RunContext` for a plain function: what is awaited there returns here when it is done."""

    def __init__(self, run: RunContext, loop: asyncio.AbstractEventLoop) -> None:
        self.id: Final = run.id
        self.attempt: Final = run.attempt
        self.parent_id: Final = run.parent_id
        self._run: Final = run
        self._loop: Final = loop
        self._loop_thread: Final = threading.get_ident()  # it is made there
        self._is_canceled: Final = threading.Event()
        self._waiting: Final[set[Future[Any]]] = set()  # what the function, and threads of its own, wait for

    @property
    def is_cancel_requested(self) -> bool:
        """Whether the run was canceled, or its time is over: clean up and return. Long loops ask for it."""
        return self._is_canceled.is_set()

    @overload
    def step(self, name: str, function: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> T: ...
    @overload
    def step(self, name: str, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T: ...

    def step(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """See `RunContext.step`. A plain function runs in another thread."""

        async def execute() -> Any:
            return await self._run.step(name, function, *args, **kwargs)

        return self._wait(execute())

    def sleep(self, seconds: float) -> None:
        """See `RunContext.sleep`."""
        self._wait(self._run.sleep(seconds))

    def sleep_until(self, moment: datetime) -> None:
        """See `RunContext.sleep_until`."""
        self._wait(self._run.sleep_until(moment))

    def emit(self, event_type: str, payload: Mapping[str, Any]) -> None:
        """See `RunContext.emit`."""
        self._call(lambda: self._run.emit(event_type, payload))

    def message(self, name: str | None = None) -> "SyncMessage":
        """`with run.message() as answer: answer.write(token)`."""
        return SyncMessage(self._run.message(name), self)

    def stream(self, stream: Any, name: str | None = None) -> str:
        """See `RunContext.stream`."""
        return self._wait(self._run.stream(stream, name))

    def progress(self, value: float, total: float | None = None, message: str | None = None) -> None:
        """See `RunContext.progress`."""
        self._call(lambda: self._run.progress(value, total, message))

    def log(self, message: str, level: str = "info", **data: Any) -> None:
        """See `RunContext.log`."""
        self._call(lambda: self._run.log(message, level, **data))

    def usage(self, **figures: Any) -> None:
        """See `RunContext.usage`."""
        self._call(lambda: self._run.usage(**figures))

    def artifact(self, name: str, **source: Any) -> Artifact:
        """See `RunContext.artifact`."""
        if isinstance(path := source.get("path"), str):
            source["path"] = Path(path)
        return self._wait(self._run.artifact(name, **source))

    def approve(self, prompt: str, **options: Any) -> Approval:
        """See `RunContext.approve`."""
        return self._wait(self._run.approve(prompt, **options))

    def ask(self, prompt: str, **options: Any) -> Any:
        """See `RunContext.ask`."""
        return self._wait(self._run.ask(prompt, **options))

    def start(self, runner: str | Callable[..., Any], /, **value: Any) -> "SyncChildRun":
        """See `RunContext.start`."""
        return SyncChildRun(self._wait(self._run.start(runner, **value)), self)

    def call(self, runner: str | Callable[..., Any], /, **value: Any) -> Any:
        """See `RunContext.call`."""
        return self._wait(self._run.call(runner, **value))

    def cancel(self) -> None:
        """Have the function stop: called in the event loop."""
        self._is_canceled.set()
        for waiting in tuple(self._waiting):
            waiting.cancel()

    def _call(self, action: Callable[[], None]) -> None:
        """Do something that never waits, in the event loop, and raise what it raises."""

        async def act() -> None:
            action()

        self._wait(act())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if threading.get_ident() == self._loop_thread:  # which would wait for itself
            work.close()
            raise RuntimeError(
                "a SyncRunContext blocks: an async function takes a RunContext, which a step's function is handed over"
            )
        if self._is_canceled.is_set():
            work.close()
            raise RunCanceledError(self.id)
        # The coroutine runs in a copy of this thread's context: in the step that the thread is in.
        waiting = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._waiting.add(waiting)
        if self._is_canceled.is_set():  # by the event loop, between the two lines before
            waiting.cancel()
        try:
            result: T = waiting.result()
        except CancelledError:
            raise RunCanceledError(self.id) from None
        finally:
            self._waiting.discard(waiting)
        return result


class SyncMessage:
    """`Message` for a plain function."""

    def __init__(self, message: Message, run: SyncRunContext) -> None:
        self._message: Final = message
        self._run: Final = run

    @property
    def text(self) -> str:
        """See `Message.text`."""
        return self._message.text

    def __enter__(self) -> Self:
        self._run._wait(self._message.__aenter__())  # noqa: SLF001 - two halves of one thing
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._run.is_cancel_requested:
            self._run._wait(self._message.__aexit__(kind, error, trace))  # noqa: SLF001 - as above

    def write(self, delta: str) -> None:
        """See `Message.write`."""
        self._run._call(lambda: self._message.write(delta))  # noqa: SLF001 - as above


class SyncChildRun:
    """`ChildRun` for a plain function."""

    def __init__(self, child: ChildRun, run: SyncRunContext) -> None:
        self.id: Final = child.id
        self._child: Final = child
        self._run: Final = run

    def result(self) -> Any:
        """See `ChildRun.result`."""
        return self._run._wait(self._child.result())  # noqa: SLF001 - two halves of one thing


async def call_in_thread(function: Callable[[SyncRunContext], Any], run: RunContext) -> Any:
    """Call a plain function with a context that blocks. Canceled, set its flag and wait until it ends."""
    blocking = SyncRunContext(run, asyncio.get_running_loop())
    return await run_in_thread(lambda: function(blocking), name=f"run-{run.id}", cancel=blocking.cancel)


@as_blocking.register
def _block(run: RunContext) -> SyncRunContext:
    return SyncRunContext(run, asyncio.get_running_loop())


@as_blocking.register
def _block_apart(run: SyncRunContext) -> SyncRunContext:
    # One of its own: a step that is late is told to stop, its runner isn't.
    return _block(run._run)  # noqa: SLF001 - two halves of one thing


@as_awaited.register
def _await(run: SyncRunContext) -> RunContext:
    return run._run  # noqa: SLF001 - two halves of one thing
