"""The tiled loss as a node of an autograd graph: the gradient is computed with the loss.

Nothing of size n^2 is kept for the backward pass, and a GPU that is given both passes at once never
waits for Python. Under `torch.no_grad` there is only the loss.

Shapes: n images in the batch, d descriptor size.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from apdist.loss.batch import Batch
from apdist.loss.gradient import first_pass, read_sums, score_batch_rows
from apdist.loss.results import Diagnostics, RowScores


def tiled_loss(batch: Batch) -> tuple[Tensor, Diagnostics]:
    """() float64 loss of the ``batch``, differentiable once, and its by-products."""
    found: list[Diagnostics] = []
    loss: Tensor = _TiledLoss.apply(  # type: ignore[no-untyped-call]
        batch.descriptors, batch, found
    )
    return loss, found[0]


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, descriptors: Tensor, batch: Batch, found: list[Diagnostics]) -> Tensor:
        if not ctx.needs_input_grad[0]:
            # Nothing is kept for a second pass.
            options = dataclasses.replace(batch.options, cache_mib=0)
            batch = dataclasses.replace(batch, options=options)
            every = slice(0, len(descriptors))
            loss, diagnostics = read_sums(batch, first_pass(batch, every, _identity).sums)
        else:
            scores = _scored(batch)
            loss, diagnostics, ctx.gradient = scores.loss, scores.diagnostics, scores.gradient
            ctx.save_for_backward(descriptors)
            # They are saved: no second reference, which hooks would not see.
            ctx.batch = dataclasses.replace(batch, descriptors=descriptors.new_empty(0))
        found.append(diagnostics)
        return loss

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (descriptors,) = ctx.saved_tensors
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:  # given away by the backward pass before
            with torch.no_grad(), torch.autocast(descriptors.device.type, enabled=False):
                gradient = _scored(dataclasses.replace(ctx.batch, descriptors=descriptors)).gradient
        gradient.mul_(grad_output.detach())
        if torch.is_grad_enabled():
            # With create_graph=True: a second derivative fails instead of being wrong.
            gradient = _Undifferentiable.apply(  # type: ignore[no-untyped-call]
                gradient, descriptors, grad_output
            )
        return gradient, None, None


def _scored(batch: Batch) -> RowScores:
    """Loss of the ``batch``, and its gradient by all descriptors."""
    return score_batch_rows(batch, slice(0, len(batch.descriptors)), _identity, _identity)


class _Undifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor) -> Tensor:  # noqa: ARG004
        return gradient

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        raise NotImplementedError(
            "the tiled average-precision loss has no second derivative; "
            'use backend="dense" on a small batch for gradients of gradients'
        )


def _identity(value: Tensor) -> Tensor:
    return value
