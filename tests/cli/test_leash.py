"""The leash where the kernel doesn't watch the parent: a pipe does."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process

from runcast import leash
from tests.cli.processes import eventually, is_running

CHILD = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"


async def start(code: str, *, inherited_fds: tuple[int, ...] = ()) -> tuple[Process, int]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", leash.__file__, "--pipe", "1", sys.executable, "-c", code),
        stdin=PIPE,
        stdout=PIPE,
        pass_fds=inherited_fds,
    )
    assert process.stdout is not None
    return process, int(await process.stdout.readline())


async def test_the_end_of_the_pipe_ends_the_child() -> None:
    """When the supervisor dies its end of the pipe closes, and the child is told to stop."""
    process, pid = await start(CHILD)
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 128 + signal.SIGTERM
    await eventually(lambda: not is_running(pid), "the child ends")


async def test_signals_are_passed_on() -> None:
    """What the supervisor asks of the leash, the child is asked."""
    process, pid = await start(CHILD)
    process.terminate()
    assert await process.wait() == 128 + signal.SIGTERM
    assert not is_running(pid)


async def test_the_childs_exit_code_is_the_leashs() -> None:
    """The supervisor learns how the child ended."""
    process, _ = await start("import os; print(os.getpid(), flush=True); raise SystemExit(7)")
    assert await process.wait() == 7


async def test_what_the_leash_inherits_the_child_inherits() -> None:
    """A descriptor by which a part says that it is ready is still there."""
    reader, writer = os.pipe()
    code = f"import os; print(os.getpid(), flush=True); os.write({writer}, b'ready')"
    process, _ = await start(code, inherited_fds=(writer,))
    os.close(writer)
    assert await process.wait() == 0
    assert os.read(reader, 10) == b"ready"
    os.close(reader)


async def test_a_command_whose_parent_is_gone_never_runs() -> None:
    """A parent that died before the leash was on leaves nothing behind."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", leash.__file__, "1", sys.executable, "-c", "print('ran')", stdout=PIPE
    )
    output, _ = await process.communicate()
    assert (output, process.returncode) == (b"", 1)


async def test_a_missing_command_is_named() -> None:
    """A command that isn't there gives one line that says so."""
    arguments = leash.wrap(["/nowhere/server"], parent_pid=os.getpid(), python=sys.executable)
    process = await asyncio.create_subprocess_exec(*arguments, stdin=PIPE, stderr=PIPE)
    _, errors = await process.communicate()
    assert errors == b"runcast: can't start /nowhere/server: No such file or directory\n"
    assert process.returncode == 127
