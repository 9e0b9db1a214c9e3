"""Runs a command that ends when its parent does, however the parent ends.

    python -I -S leash.py [--pipe] PARENT_PID COMMAND [ARGUMENT …]

Run as a script by a bare interpreter, so it imports nothing but what the standard library has, and as little of that
as it can. On Linux it asks the kernel for SIGTERM at its parent's death and then *becomes* the command, so the process
list shows the command alone. Elsewhere (or with `--pipe`) it stays as the command's parent and watches its standard
input, a pipe whose other end only the supervisor holds: at its end the command is told to stop, and is killed if it
hasn't after `GRACE_SECONDS`.

The kernel sends the signal when the *thread* that started this process ends: start it from the main thread.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 30
USES_KERNEL = sys.platform == "linux"
"""Whether the kernel watches the parent; otherwise the child's standard input has to be a pipe from it."""


def wrap(argv: list[str], *, parent_pid: int, python: str) -> list[str]:
    """The command line that runs `argv` on a leash."""
    mode = [] if USES_KERNEL else ["--pipe"]
    return [python, "-I", "-S", os.path.abspath(__file__), *mode, str(parent_pid), *argv]  # noqa: PTH100  # no pathlib here


def main(arguments: list[str]) -> int:
    """Run the command; returns its exit code only if it isn't replaced by it."""
    uses_pipe = arguments[0] == "--pipe"
    parent, *argv = arguments[1:] if uses_pipe else arguments
    if uses_pipe:
        return _run_until_pipe_ends(argv)
    _die_with_parent(int(parent))
    try:
        os.execvp(argv[0], argv)  # noqa: S606  # replacing this process is the purpose
    except OSError as error:
        print(f"runcast: can't start {argv[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201  # there is no logging yet
        return 127


def _die_with_parent(parent_pid: int) -> None:
    import ctypes  # noqa: PLC0415  # not needed on the other path

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent_pid:  # it died before the call above, so no signal will come
        raise SystemExit(1)


def _run_until_pipe_ends(argv: list[str]) -> int:
    import subprocess  # noqa: PLC0415  # not needed on the other path
    import threading  # noqa: PLC0415

    # What this process was given to inherit goes on to the command.
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, close_fds=False)  # noqa: S603  # the supervisor's own command
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, lambda received, _: child.send_signal(received))

    def watch() -> None:
        while os.read(0, 1024):
            pass
        child.terminate()
        try:
            child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
