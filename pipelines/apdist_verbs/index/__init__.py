"""``apdist index``: a search index, built, added to, updated, thinned out and checked."""

import importlib

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
_BUILD = """Describe images with a trained model and build an index to search them.

Once it is there:
"""


def main(argv: list[str]) -> int:
    """Parse and run."""
    if not argv or argv[0].startswith("-"):
        lines = [f"  apdist index {verb:<8}{text}" for verb, (_, text) in VERBS.items()]
        return build(parse(Options, argv, "apdist index", description=_BUILD + "\n".join(lines)))
    if argv[0] not in VERBS:
        raise ValueError(
            f"expected `apdist index` with options, or `apdist index {'|'.join(VERBS)}`, got "
            f"{argv[0]!r}{suggestion(argv[0], list(VERBS))} (`apdist index --help` tells more)"
        )
    change = importlib.import_module("apdist_verbs.index.change")
    options = parse(getattr(change, VERBS[argv[0]][0]), argv[1:], f"apdist index {argv[0]}")
    code: int = getattr(change, f"index_{argv[0]}")(options)
    return code
