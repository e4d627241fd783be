"""What stays the same from step to step."""

from dataclasses import dataclass
from typing import get_args

import torch.distributed as dist

from apdist.config.values import of_python
from apdist.loss.batch_loss import BatchLoss
from apdist.training.step.activations import Activations


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How the global step is computed; the same on every worker but for ``group``."""

    loss: BatchLoss
    """An `AveragePrecisionLoss`, or any function of (descriptors, labels) that returns a scalar."""
    chunk_size: int
    """Images that go through the model at once; bounds memory, not the result."""
    seed: int = 0
    """Of the run: with the number of the step and of the chunk the seed of dropout."""
    activations: Activations = "recompute"
    """What stage 1 keeps of each chunk for stage 3."""
    bf16: bool = False
    """Run the model, not the loss, under bf16 autocast."""
    gather_once: bool = False
    """Gather sharded parameters once a stage, not for every chunk: all of them and their gradients
    lie on the device meanwhile."""
    group: dist.ProcessGroup | None = None
    """The workers; None means all."""
    worker_sizes: tuple[int, ...] = ()
    """Images of every worker in each batch; without them the workers ask each other every time."""

    def __post_init__(self) -> None:
        modes = get_args(Activations)
        if self.activations not in modes:
            raise ValueError(
                f"activations must be one of {', '.join(modes)}, got {self.activations!r}; "
                "what auto means is chosen by MemoryProbe.choose_activations "
                "in apdist.training.step.memory"
            )
        if isinstance(self.loss, type):
            name = self.loss.__name__
            raise ValueError(f"loss is the class {name}; make one of it: {name}()")
        if not callable(self.loss):
            raise ValueError(
                f"loss must be a function of (descriptors, labels), got {self.loss!r}; "
                "use AveragePrecisionLoss()"
            )
        object.__setattr__(self, "chunk_size", of_python(self.chunk_size))
        sizes = tuple(map(of_python, self.worker_sizes))
        if not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError(
                f"worker_sizes must hold the images of each worker, got {self.worker_sizes!r}; "
                "use sizes_of_workers, or leave it out"
            )
        object.__setattr__(self, "worker_sizes", sizes)
        if type(self.chunk_size) is not int or self.chunk_size < 1:
            raise ValueError(
                f"chunk_size must be a whole number of at least 1, got {self.chunk_size!r}"
            )
