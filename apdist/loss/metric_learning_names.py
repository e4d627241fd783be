"""Which losses pytorch-metric-learning has: read in its source, as its import takes seconds."""

import ast
import importlib.util
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

PACKAGE = "pytorch_metric_learning"


def refuse_unknown_name(name: str) -> None:
    """Return if pytorch-metric-learning has a loss of this class name.

    Raises:
        ValueError: it has not, or is not installed.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            f"the loss {name!r} needs pytorch-metric-learning, which is not installed; "
            "use pip install 'apdist[metric-learning]'"
        )
    known = _names(Path(found.submodule_search_locations[0], "losses", "__init__.py"))
    if name not in known:
        close = get_close_matches(name, known, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"pytorch-metric-learning has no loss {name!r}{hint}; it has {', '.join(known)}"
        )


@lru_cache(maxsize=1)
def _names(source: Path) -> list[str]:
    """What the package imports to hand it on, as far as it is a loss."""
    imports = [n for n in ast.parse(source.read_text()).body if isinstance(n, ast.ImportFrom)]
    names = {each.asname or each.name for node in imports for each in node.names}
    return sorted(name for name in names if name.endswith("Loss"))
