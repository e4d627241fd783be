"""``apdist demo``: every verb in turn, on characters drawn for it."""

from dataclasses import dataclass

from apdist_verbs.terminal.options import parse


@dataclass(frozen=True)
class Options:
    """Draw characters, train on them, evaluate, index, search and report: a few minutes."""


def main(argv: list[str]) -> int:
    """Parse and run."""
    parse(Options, argv, "apdist demo")
    from apdist_verbs.demo_tour import tour

    return tour()
