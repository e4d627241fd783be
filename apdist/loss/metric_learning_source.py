"""What pytorch-metric-learning has, read in its source: its import takes seconds."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from apdist.config.extras import install
from apdist.config.values import suggestion

PACKAGE = "pytorch_metric_learning"
CLASSES = "num_classes"
SIZES = ("embedding_size", "descriptors_dim")
"""Names of the size of a descriptor."""


@dataclass(frozen=True)
class Parameter:
    """One of a constructor."""

    name: str
    default: str | None
    """As the source has it; None: there is none."""

    def __str__(self) -> str:
        return self.name if self.default is None else f"{self.name}={self.default}"

    @property
    def is_number(self) -> bool:
        """Whether it has a number where nothing is given."""
        try:
            return type(ast.literal_eval(self.default or "None")) in (int, float)
        except ValueError:  # an expression
            return False


def refuse_unknown_name(name: str) -> None:
    """Return if pytorch-metric-learning has a loss of this class name.

    Raises:
        ValueError: it has not, or is not installed.
    """
    known = sorted(name for name in _imports(_folder() / "losses") if name.endswith("Loss"))
    if name not in known:
        raise ValueError(
            f"pytorch-metric-learning has no loss {name!r}{suggestion(name, known)}; "
            f"it has {', '.join(known)}"
        )


def refuse_arguments(name: str, arguments: Mapping[str, object]) -> None:
    """Return if the constructor of the loss ``name`` may take ``arguments``.

    Raises:
        ValueError: one is unknown, missing, not for a person to give, or text in place of a number.
    """
    known = constructor_parameters(name)
    for argument, value in arguments.items():
        if argument in (CLASSES, *SIZES) and CLASSES in known:
            raise ValueError(
                f"loss.arguments: {argument} of pml:{name} is known from the data and the model; "
                "leave it out"
            )
        if argument not in known:
            meant = suggestion(argument, known)
            raise ValueError(
                f"loss.arguments: pml:{name} has no argument {argument!r}{meant}; "
                f"it is {signature_of(name)}"
            )
        if isinstance(value, str) and known[argument].is_number:
            raise ValueError(
                f"loss.arguments: {argument} of pml:{name} must be a number, got {value!r}; "
                f"it is {signature_of(name)}"
            )
    given = {*arguments, CLASSES, *SIZES} if CLASSES in known else {*arguments}
    # What the classes that it extends want it gives them itself.
    own = next(_constructors(name), ())
    if missing := [p.name for p in own if p.default is None and p.name not in given]:
        raise ValueError(
            f"loss.arguments: pml:{name} needs {', '.join(missing)}; it is {signature_of(name)}"
        )


def signature_of(name: str) -> str:
    """The loss ``name`` with its parameters, as a person would write them."""
    return f"{name}({', '.join(map(str, constructor_parameters(name).values()))})"


def constructor_parameters(name: str) -> dict[str, Parameter]:
    """What the constructor of the loss ``name`` takes, those of the classes that it extends too."""
    found: dict[str, Parameter] = {}
    for parameters in _constructors(name):
        for parameter in parameters:
            found.setdefault(parameter.name, parameter)
    return found


def _constructors(name: str) -> Iterator[tuple[Parameter, ...]]:
    """The parameters of each, of the class ``name`` first, then of those that it extends."""
    for base in _stand_in(_folder() / "losses", name).__mro__:
        if parameters := vars(base).get("parameters"):
            yield parameters


def _folder() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise ValueError(
            "a loss pml:NAME needs pytorch-metric-learning, which is not installed; "
            f"use {install('metric-learning')}"
        )
    return Path(found.submodule_search_locations[0])


@lru_cache
def _stand_in(module: Path, name: str) -> type:
    """A class for the class ``name`` of ``module``, with its bases: Python knows their order.

    It has the parameters of its own constructor. What lies outside of the package is `object`.
    """
    if (imported := _imports(module).get(name)) is not None:
        return _stand_in(*imported)
    nodes = [n for n in _tree(module).body if isinstance(n, ast.ClassDef) and n.name == name]
    if not nodes:
        return object
    names = [base.id for base in nodes[-1].bases if isinstance(base, ast.Name)]
    bases = dict.fromkeys(_stand_in(module, base) for base in names)
    own = tuple(_own_parameters(nodes[-1]))
    return type(name, tuple(b for b in bases if b is not object), {"parameters": own})


def _own_parameters(node: ast.ClassDef) -> Iterable[Parameter]:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            given = method.args
            positional = [*given.posonlyargs, *given.args]
            without = len(positional) - len(given.defaults)
            defaults = [*[None] * without, *given.defaults, *given.kw_defaults]
            for argument, default in zip([*positional, *given.kwonlyargs], defaults, strict=True):
                if argument is not positional[0]:
                    yield Parameter(argument.arg, None if default is None else ast.unparse(default))


@lru_cache
def _imports(module: Path) -> dict[str, tuple[Path, str]]:
    """Names that ``module`` has from others of the package: from which, and its name there."""
    found: dict[str, tuple[Path, str]] = {}
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = module if _is_folder(module) else module.parent
            for _ in range(node.level - 1):
                folder = folder.parent
            source = folder.joinpath(*(node.module or "").split("."))
            found |= {each.asname or each.name: (source, each.name) for each in node.names}
    return found


def _is_folder(module: Path) -> bool:
    return (module / "__init__.py").exists()


@lru_cache
def _tree(module: Path) -> ast.Module:
    """Of the file of ``module``, a path without its ending; empty where there is none."""
    file = module / "__init__.py" if _is_folder(module) else module.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8") if file.exists() else "")
