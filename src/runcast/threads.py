"""Plain functions as runners: each runs in a thread of its own, with a context whose methods block instead of await.

A thread can't be interrupted: when the run is canceled a flag is set, and whatever the function calls on its run next
raises `RunCanceledError`.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from runcast.context import Approval, ChildRun, RunContext
from runcast.errors import RunCanceledError
from runcast.messages import Message
from runcast.records import Artifact

T = TypeVar("T")


class SyncRunContext:
    """`RunContext` for a plain function: what is awaited there returns here when it is done."""

    def __init__(self, run: RunContext, loop: asyncio.AbstractEventLoop) -> None:
        self.id: Final = run.id
        self.attempt: Final = run.attempt
        self.parent_id: Final = run.parent_id
        self._run: Final = run
        self._loop: Final = loop
        self._is_canceled: Final = threading.Event()
        self._waiting: Final[set[Future[Any]]] = set()  # what the function, and threads of its own, wait for

    @property
    def is_cancel_requested(self) -> bool:
        """Whether the run was canceled, or its time is over: clean up and return. Long loops ask for it."""
        return self._is_canceled.is_set()

    def step(self, name: str, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """See `RunContext.step`. The function runs in a thread of its own, too."""

        async def execute() -> T:
            result: T = await self._run.step(name, function, *args, **kwargs)
            return result

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
    loop = asyncio.get_running_loop()
    blocking = SyncRunContext(run, loop)
    context = contextvars.copy_context()
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"run-{run.id}")
    calling = loop.run_in_executor(executor, lambda: context.run(function, blocking))
    try:
        return await asyncio.shield(calling)
    except asyncio.CancelledError:
        blocking.cancel()
        await asyncio.wait([calling])
        if not calling.cancelled():
            calling.exception()  # it was told to stop: what it raised then is its way to do so
        raise
    finally:
        executor.shutdown(wait=False)
