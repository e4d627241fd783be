"""``apdist index``: a search index, built, added to, updated, thinned out and checked."""

import importlib
from typing import Any

from apdist.config import suggestion
from apdist_verbs.index.build import Options as Options
from apdist_verbs.index.build import build
from apdist_verbs.index.build import make_index as make_index
from apdist_verbs.terminal.options import parse

VERBS = {
    "add": ("AddTo", "add images that it does not hold"),
    "update": ("Update", "describe images anew, and add those that it does not hold"),
    "remove": ("Remove", "remove images by key, or by what is known of them"),
    "check": ("Check", "tell what it holds, and compare its files with their checksums"),
}
"""Options of each verb, in `change`, and its help; the function that runs is index_<verb>."""
_CHANGES = "apdist_verbs.index.change"
_BUILD = """Describe images with a trained model and build an index to search them.

Once it is there:
"""


def main(argv: list[str]) -> int:
    """Parse and run."""
    verb, options = read_options(argv)
    if not verb:
        return build(options)
    code: int = getattr(importlib.import_module(_CHANGES), f"index_{verb}")(options)
    return code


def read_options(argv: list[str]) -> tuple[str, Any]:
    """The verb, empty where an index is built, and its options.

    Raises:
        ValueError: there is no such verb, or an option is wrong.
    """
    if not argv or argv[0].startswith("-"):
        lines = [f"  apdist index {verb:<8}{text}" for verb, (_, text) in VERBS.items()]
        return "", parse(Options, argv, "apdist index", description=_BUILD + "\n".join(lines))
    if argv[0] not in VERBS:
        raise ValueError(
            f"expected `apdist index` with options, or `apdist index {'|'.join(VERBS)}`, got "
            f"{argv[0]!r}{suggestion(argv[0], list(VERBS))} (`apdist index --help` tells more)"
        )
    kind = getattr(importlib.import_module(_CHANGES), VERBS[argv[0]][0])
    return argv[0], parse(kind, argv[1:], f"apdist index {argv[0]}")
