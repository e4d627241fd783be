"""Where a run comes from: command, person, commit and versions, by the tags that MLflow shows."""

import getpass
import os
import platform
import shlex
import socket
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from apdist.addresses import without_secrets
from apdist.data.text import printable

PACKAGES = ("apdist", "mlflow", "numpy", "pillow", "pyarrow", "ray", "torch", "transformers")
GIT_S = 5.0
"""Longest that git is waited for: on a disk of a network it may look at files for minutes."""
LONGEST = 4000
"""Characters of a tag; some stores of MLflow take no more."""


def surroundings() -> dict[str, str]:
    """Tags of a run that this process begins: without secrets, for all see them."""
    program, *words = sys.argv
    verb = f" {words[0]}" if words and words[0].isalpha() else ""
    command = shlex.join([_program(program), *words])
    return {
        "mlflow.source.name": f"{_program(program)}{verb}",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "apdist.command": printable(without_secrets(command))[:LONGEST],
        "apdist.host": socket.gethostname(),
        **_commit(Path.cwd()),
        **_versions(),
    }


def _program(program: str) -> str:
    """Its name; one that is run by `python -m` is a file of a package."""
    path = Path(program)
    return "apdist" if path.name == "__main__.py" else path.name


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container whose user has no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _versions() -> dict[str, str]:
    found = {"apdist.version.python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[f"apdist.version.{package}"] = version(package)
        except PackageNotFoundError:  # an extra, or apdist run from its source
            continue
    return found


def _commit(folder: Path) -> dict[str, str]:
    """The commit of the repository that ``folder`` is in, and whether files differ from it."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    tags = {"mlflow.source.git.commit": commit}
    if changed is not None:
        tags["apdist.git.dirty"] = "true" if changed else "false"
    if branch := _git(folder, "branch", "--show-current"):
        tags["mlflow.source.git.branch"] = branch
    if url := _git(folder, "remote", "get-url", "origin"):
        tags["mlflow.source.git.repoURL"] = without_secrets(url).replace("...@", "")  # a link
    return tags


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None where it is not there, or says no."""
    # Another process may commit meanwhile: its lock is not taken.
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout.strip()
