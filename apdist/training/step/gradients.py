"""Gradients that were there before a step: set aside, because only new ones may be summed."""

from torch import Tensor, nn


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
