"""How a command ends: its exit code, what went wrong in one line, and the end of its process."""

import atexit
import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from apdist.addresses import without_secrets
from apdist_verbs.terminal.stopping import stopped_by_signals

QUIET = {
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""What keeps libraries from drawing bars of their own beside ours."""
LONGEST_WORD = 300
"""Characters; a path may be long, too."""
LONGEST_LINE = 1200


class HelpShown(SystemExit):
    """A help was all that was asked for."""


class UnreadError(SystemExit):
    """Nobody reads what is written, and to write was all that was asked for."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGPIPE)


def end_with(work: Callable[[], int]) -> NoReturn:
    """Run ``work`` and end the process with the code it returns, whatever threads are left.

    Python takes its interpreter down under threads that go on, and before 3.14 ends each that asks
    for its lock then. In the C++ of torch, Arrow or Ray that is SIGABRT instead of an exit code, so
    this process ends one moment earlier: after everything that is registered with `atexit`.
    """
    _open_what_is_closed()
    codes = [1]  # of an exception that nobody catches
    atexit.register(lambda: _leave(codes[0]))  # the first to be registered runs last
    try:
        codes[0] = work()
    except SystemExit as stop:  # after a help
        codes[0] = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise
    sys.exit(codes[0])


def exit_code_of(work: Callable[[], int]) -> int:
    """Run ``work``: what it returns, 1 failed, 2 bad input, 130 stopped by Ctrl-C or SIGTERM.

    With APDIST_TRACEBACK set, errors come with their traceback.
    """
    logging.basicConfig(handlers=[_ToErrors()], level=logging.WARNING)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the console's encoding lacks is shown with \\u, and ends no command.
        sys.stdout.reconfigure(errors="backslashreplace")
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    # It tells of every broken answer with a traceback; the storage room tells of those that last.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # It tells of a home that it cannot keep a cache in; we take fonts of it and nothing else.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        with stopped_by_signals():
            return work()
    except (ValueError, OSError) as error:
        if os.environ.get("APDIST_TRACEBACK"):
            raise
        return fail(told(error), 2)
    except RuntimeError as error:
        if os.environ.get("APDIST_TRACEBACK") or type(error).__name__ != "TrainingError":
            raise
        return fail(str(error), 1)
    except KeyboardInterrupt as stop:
        return fail(str(stop) or "stopped", 130)
    except (HelpShown, UnreadError):
        raise
    except SystemExit:  # a library's own answer to a signal: it says nothing, and 1 means failed
        return fail("stopped", 130)


def fail(message: str, code: int) -> int:
    """Say ``message`` in one line; returns ``code``."""
    with suppress(OSError):  # the exit code still tells
        sys.stderr.write(f"apdist: {shortened(without_secrets(' '.join(message.split())))}\n")
    return code


def _open_what_is_closed() -> None:
    """Send to nowhere what the process was started without, as `>&-` and some daemons do.

    Else Python has None for the stream, and the next file that is opened gets its number: Ray, or a
    child, would write its errors into that file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this
            os.set_inheritable(nowhere, True)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - stays


class _ToErrors(logging.Handler):
    """Log records as lines that do not break the line of a progress."""

    def emit(self, record: logging.LogRecord) -> None:
        from apdist_verbs.terminal.console import for_errors  # a help needs no rich

        for_errors().print(
            f"{record.levelname}: {without_secrets(record.getMessage())}", markup=False
        )


def shortened(text: str) -> str:
    """``text`` without the middle of what is too long to be read: data, not our own words."""
    words = [_without_middle(word, LONGEST_WORD) for word in text.split(" ")]
    return _without_middle(" ".join(words), LONGEST_LINE)


def _without_middle(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}...({len(text)} characters)...{text[-most // 3 :]}"


def _leave(code: int) -> NoReturn:
    if lost := _output_lost():
        if not code and not isinstance(lost, BrokenPipeError):
            fail(_lost("the output", lost.errno or errno.EIO), 1)
        code = code or 1
    try:
        sys.stderr.flush()
    except OSError:
        code = code or 1
    os._exit(code)


def _output_lost() -> OSError | None:
    """Why the standard output cannot be written: nobody reads on, or its disk is full."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    return None


def told(error: ValueError | OSError) -> str:
    """Its message; an error of the file system itself gets path and remedy."""
    if isinstance(error, IsADirectoryError) and error.filename:
        return f"{error.filename} is a folder, where a file is expected; check the path"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}; check the path and your rights there"
    if isinstance(error, OSError) and error.errno and _output_lost():
        return _lost("the output", error.errno)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:  # of a file without a name
        return _lost("the output, or a temporary file,", error.errno)
    return str(error)


def _lost(what: str, number: int) -> str:
    return (
        f"{what} cannot be written ({os.strerror(number).lower()}); make room on the disk that it "
        "goes to, or send it elsewhere"
    )
