"""Parts of a network by pattern of names, as ``backbone.layer1.*``.

A parameter keeps the name that it has without adapters, so that a pattern means the same with them.
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from apdist.config import suggestion

_BASE = ".base_layer."
_ADAPTERS = (".lora_A.", ".lora_B.")


def plain_name(name: str) -> str:
    """The name of a parameter where its layer has no adapter."""
    return name.replace(_BASE, ".")


def is_adapter(name: str) -> bool:
    """Whether the parameter of that name belongs to an adapter."""
    return any(part in name for part in _ADAPTERS)


def fits(pattern: str, name: str) -> bool:
    """Whether ``pattern`` means ``name``; the name of a part stands for all that is in it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def refuse_unknown(
    option: str, patterns: Sequence[str], names: Iterable[str], what: str = "nothing in the network"
) -> None:
    """Raise unless each of ``patterns`` fits one of ``names``, which are of ``what``.

    Raises:
        ValueError: one fits none.
    """
    known = list(dict.fromkeys(names))
    for pattern in patterns:
        if any(fits(pattern, name) for name in known):
            continue
        parts = {f"{'.'.join(path[:k])}.*" for path in _paths(known) for k in range(1, len(path))}
        first = sorted({path[0] for path in _paths(known)})
        ends = {f"*.{path[-1]}" for path in _paths(known)}
        close = suggestion(pattern, [*sorted(parts), *sorted(ends), *known])
        raise ValueError(f"{option}: {what} is named {pattern!r}{close or _begins(first)}")


def _paths(names: Sequence[str]) -> list[list[str]]:
    return [name.split(".") for name in names]


def _begins(parts: Sequence[str]) -> str:
    return f"; its names begin with {', '.join(parts)}"
