"""Gradients: earlier ones set aside, because only new ones may be summed; who has found which."""

from collections.abc import Sequence

from torch import Tensor, nn

from apdist.loss.batch_loss import BatchLoss, parameters_of
from apdist.training.step.collectives import Workers

_BITS = 62  # of a number that the workers tell each other


def used_flags(parameters: Sequence[nn.Parameter]) -> list[int]:
    """Which ``parameters`` have a gradient here, a bit for each."""
    return [
        sum((p.grad is not None) << bit for bit, p in enumerate(parameters[start : start + _BITS]))
        for start in range(0, len(parameters), _BITS)
    ]


def used_anywhere(
    parameters: Sequence[nn.Parameter], flags: Sequence[Sequence[int]]
) -> list[nn.Parameter]:
    """Those that have a gradient on some worker, by the ``flags`` of all of them.

    As in one graph: a parameter that nobody used has no gradient, not one of zero.
    """
    return [
        parameter
        for number, parameter in enumerate(parameters)
        if any(told[number // _BITS] >> number % _BITS & 1 for told in flags)
    ]


def take_gradients(model: nn.Module) -> list[Tensor | None]:
    """``.grad`` of each parameter, which is None afterwards."""
    taken = [parameter.grad for parameter in model.parameters()]
    for parameter in model.parameters():
        parameter.grad = None
    return taken


def add_gradients(model: nn.Module, earlier: list[Tensor | None]) -> None:
    """Add what `take_gradients` took."""
    for parameter, gradient in zip(model.parameters(), earlier, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            parameter.grad.add_(gradient)


def add_to_loss(loss: BatchLoss, gradients: Sequence[Tensor | None], workers: Workers) -> None:
    """Add ``gradients`` by the parameters of ``loss`` to their ``.grad``: those of worker 0.

    Each worker has computed the same; a GPU's sums may differ in the last bits, and parameters that
    nobody compares would drift apart.
    """
    for parameter, gradient in zip(parameters_of(loss), gradients, strict=True):
        if gradient is None:
            continue
        gradient = workers.broadcast(gradient)
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
