"""Keywords from a dataclass: type checkers and `help` see its fields in place of ``**options``.

So an option of the loss is written once, in `LossOptions`, and not again in each signature; and
who misspells one is told by the name of what was called.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from torch import Tensor

from apdist.config.values import suggestion

P = ParamSpec("P")


def function_of(
    options: Callable[P, object],
) -> Callable[[Callable[..., Tensor]], Callable[Concatenate[Tensor, Tensor, P], Tensor]]:
    """Decorator of a function of two tensors and the fields of ``options``."""
    return lambda function: _signed(function, options)


def module_of(
    options: Callable[P, object],
) -> Callable[[Callable[..., None]], Callable[Concatenate[Any, P], None]]:
    """Decorator of an ``__init__`` that takes the fields of ``options``."""
    return lambda function: _signed(function, options)


def _signed(function: Any, options: Callable[..., object]) -> Any:
    own = inspect.signature(function)
    keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD
    first = [p for p in own.parameters.values() if p.kind == keyword]
    parameters = [*first, *inspect.signature(options).parameters.values()]
    names = [parameter.name for parameter in parameters if parameter.name != "self"]
    called = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

    @functools.wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        if unknown := keywords.keys() - set(names):
            name = min(unknown)
            meant = suggestion(name, names) or f"; it takes {', '.join(names)}"
            raise TypeError(f"{called}() has no argument {name!r}{meant}")
        return function(*arguments, **keywords)

    checked.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    return checked
