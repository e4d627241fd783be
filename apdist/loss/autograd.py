"""The tiled loss as a node of an autograd graph: nothing of size n^2 is kept for the backward pass.

Shapes: n images, d descriptor size, M bins.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from apdist.loss.batch import Batch
from apdist.loss.gradient import first_pass, second_pass
from apdist.loss.results import Diagnostics


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
            batch = dataclasses.replace(
                batch, options=dataclasses.replace(batch.options, cache_mib=0)
            )
        scored = first_pass(batch, slice(0, len(descriptors)), _same)
        ctx.save_for_backward(descriptors, scored.slopes)
        # The descriptors are saved above: no second reference, which hooks would not see.
        ctx.batch = dataclasses.replace(batch, descriptors=descriptors.new_empty(0))
        ctx.codes = scored.codes
        found.append(scored.diagnostics)
        return scored.loss

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        descriptors, slopes = ctx.saved_tensors
        with torch.no_grad(), torch.autocast(descriptors.device.type, enabled=False):
            batch = dataclasses.replace(ctx.batch, descriptors=descriptors)
            gradient = second_pass(batch, slice(0, len(descriptors)), slopes, ctx.codes)
            # A loss that is kept must not keep a byte a pair; another backward pass computes again.
            ctx.codes = [codes.new_empty((0, 0)) for codes in ctx.codes]
            gradient.mul_(grad_output)
        # With create_graph=True this node makes a second derivative fail instead of being wrong.
        gradient = _Undifferentiable.apply(  # type: ignore[no-untyped-call]
            gradient, descriptors, grad_output
        )
        return gradient, None, None


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


def _same(value: Tensor) -> Tensor:
    return value
