"""How a command ends: its exit code, and what went wrong in one line."""

import logging
import os
import sys
from collections.abc import Callable

from pipelines.stopping import stopped_by_signals


def exit_code_of(work: Callable[[], int]) -> int:
    """Run ``work``: what it returns, 1 failed, 2 bad input, 130 stopped by Ctrl-C or SIGTERM.

    With APDIST_TRACEBACK set, errors come with their traceback.
    """
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    # It tells of every broken answer with a traceback; the storage room tells of those that last.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        with stopped_by_signals():
            return work()
    except (ValueError, OSError) as error:
        if os.environ.get("APDIST_TRACEBACK"):
            raise
        return fail(_told(error), 2)
    except RuntimeError as error:
        if os.environ.get("APDIST_TRACEBACK") or type(error).__name__ != "TrainingError":
            raise
        return fail(str(error), 1)
    except KeyboardInterrupt as stop:
        return fail(str(stop) or "stopped", 130)


def fail(message: str, code: int) -> int:
    """Say ``message`` in one line; returns ``code``."""
    sys.stderr.write(f"apdist: {' '.join(message.split())}\n")
    return code


def _told(error: ValueError | OSError) -> str:
    """Its message; an error of the file system itself gets path and remedy."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}; check the path and who may write there"
    return str(error)
