"""The last line of a verb: the command that most people run next, with their own paths."""

import os
import shlex

from apdist.data import storage
from apdist_verbs.terminal.console import say


def say_next(what: str, *words: str) -> None:
    """Say the command of ``words`` after `apdist`, and what it is for."""
    say(f"next, {what}: {shlex.join(['apdist', *words])}")


def near(uri: str) -> str:
    """``uri`` as a person here would type it: from the current folder where it lies below it."""
    path = storage.local_path(uri)
    if path is None:
        return uri
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
