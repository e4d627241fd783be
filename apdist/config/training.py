"""Options of training: the step, the loop around it, evaluations, checkpoints."""

import re
from dataclasses import dataclass
from typing import Literal

from apdist.config.values import at_least, in_range, pattern_factors

Resize = Literal["crop", "longest", "shrink"]


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The global step and the loop around it."""

    batch_size: int = 512
    """Images in the global AP batch, over all workers together."""
    chunk_size: int | Literal["auto"] = 128
    """Images that go through the network at once; bounds memory, not the result. auto: the most
    that fit, on a CPU the fastest, found before the first step; the run keeps the number."""
    activations: Literal["auto", "recompute", "store", "offload"] = "auto"
    """What stage 1 keeps for stage 3: nothing (the model runs twice), the graph of every chunk, or
    that graph in host memory; auto stores if a trial chunk says that it fits."""
    memory_gib: float = 0.0
    """Memory a worker may fill with stored activations; 0: half of what is free."""
    parameters: Literal["replicated", "sharded"] = "replicated"
    """Every worker holds all parameters, or a part of them (FSDP2)."""
    steps: int = 240
    """Optimiser steps."""
    accumulate: int = 1
    """Global batches whose mean gradient makes one step."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    """Update rule."""
    learning_rate: float = 3e-3
    """Peak learning rate."""
    weight_decay: float = 1e-4
    """Weight decay (decoupled for adamw)."""
    decay_norms: bool = False
    """Weight decay of norms, biases and GeM's exponent, too; they usually have none."""
    layer_decay: float = 1.0
    """Factor of the learning rate from a block of the backbone to the one below it: a block k below
    the pooling learns with layer_decay ** k of the rate. 1: all alike; ViTs take 0.65 to 0.9."""
    rates: tuple[str, ...] = ()
    """Factors of the learning rate by pattern of names, "backbone.*=0.1" "linear.*=1"; of several
    that fit the last one counts."""
    freeze: tuple[str, ...] = ()
    """Parameters that are not trained, by pattern of names, "backbone.*"."""
    unfreeze_at: int = 0
    """Step from which on they are trained, too; 0: never."""
    checkpoint_blocks: bool = False
    """Activation checkpointing: a graph keeps what enters the blocks of the network, and each block
    is computed again on the way back: about half the memory, a quarter to a third more time."""
    schedule: Literal["one_cycle", "linear", "constant", "cosine", "step"] = "one_cycle"
    """Course of the learning rate: linear rise and cosine fall; linear fall; no change; cosine
    fall; a factor at each milestone. All but one_cycle rise in warmup_steps."""
    warmup_share: float = 0.2
    """Share of the steps that the one_cycle schedule rises."""
    warmup_steps: int = 0
    """Steps in which the other schedules rise from 0."""
    final_share: float = 0.0
    """Share of the learning rate that linear and cosine fall to."""
    milestones: tuple[int, ...] = ()
    """Steps at which the step schedule changes the rate, in order."""
    milestone_factor: float = 0.1
    """Factor of the rate at each milestone."""
    clip_norm: float = 0.0
    """Largest norm of the global gradient; 0 leaves it as it is."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the network's forward and backward passes; the loss is always exact."""
    tf32: bool = True
    """Let a GPU round the factors of the network's float32 products to 11 bits (TF32): several
    times faster, in matrix products and convolutions alike. The loss never does, nor a CPU."""
    deterministic: bool = False
    """On a GPU use only kernels that give the same bits each time; slower. Without it a network's
    own kernels (convolutions) may differ in the last bits from run to run; the loss never does."""
    ema: float = 0.0
    """Share that a running mean of the weights keeps at each step, 0.99 for example; the mean is
    what is measured and saved. 0: the weights themselves."""
    blend: tuple[float, ...] = ()
    """Ways from the weights at the start (0) to the trained ones (1) that are measured at each
    evaluation, 0.5 and 1 for example: between them lies what keeps more of what a pretrained
    network knew. The best is saved. Empty: the trained weights."""
    patience: int = 0
    """Evaluations without a better one, by the held-out images, after which the training ends;
    0: never."""
    compile: bool = False
    """Compile the network with torch.compile, for both passes."""
    seed: int = 0
    """Seed of weights, batches, augmentation and dropout."""

    def __post_init__(self) -> None:
        at_least("training.batch_size", self.batch_size, 4)
        if self.batch_size % 2:
            raise ValueError(f"training.batch_size must be even, got {self.batch_size}")
        if self.chunk_size != "auto":
            at_least("training.chunk_size", self.chunk_size, 1)
        at_least("training.steps", self.steps, 1)
        at_least("training.accumulate", self.accumulate, 1)
        in_range("training.memory_gib", self.memory_gib, 0, float("inf"))
        at_least("training.seed", self.seed, 0)
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"training.learning_rate must be positive, got {self.learning_rate}")
        in_range("training.weight_decay", self.weight_decay, 0, 10)
        in_range("training.clip_norm", self.clip_norm, 0, float("inf"))
        if not 0 <= self.ema < 1:
            raise ValueError(f"training.ema must lie in [0, 1), got {self.ema}")
        for way in self.blend:
            in_range("training.blend", way, 0, 1)
        at_least("training.patience", self.patience, 0)
        self._check_groups()
        self._check_schedule()

    def _check_groups(self) -> None:
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"training.layer_decay must lie in (0, 1], got {self.layer_decay}")
        pattern_factors("training.rates", self.rates)
        at_least("training.unfreeze_at", self.unfreeze_at, 0)
        if self.unfreeze_at and not self.freeze:
            raise ValueError(
                f"training.unfreeze_at {self.unfreeze_at} needs training.freeze: patterns of what "
                'is frozen until then, as "backbone.*"'
            )

    def _check_schedule(self) -> None:
        in_range("training.warmup_share", self.warmup_share, 0, 1)
        in_range("training.warmup_steps", self.warmup_steps, 0, self.steps)
        in_range("training.final_share", self.final_share, 0, 1)
        if not 0 < self.milestone_factor < float("inf"):
            raise ValueError(
                f"training.milestone_factor must be positive, got {self.milestone_factor}"
            )
        shown = " ".join(map(str, self.milestones))
        if list(self.milestones) != sorted({step for step in self.milestones if step > 0}):
            raise ValueError(f"training.milestones must be positive and rising, got {shown}")
        if bool(self.milestones) != (self.schedule == "step"):
            raise ValueError(
                f"training.milestones ({shown or 'none'}) and training.schedule {self.schedule} do "
                "not fit together: the schedule step needs milestones, the others have none"
            )

    @property
    def depends_on_steps(self) -> bool:
        """Whether the learning rate of a step depends on how many steps there are."""
        return self.schedule not in ("constant", "step")

    @property
    def images_at_once(self) -> int:
        """``chunk_size`` as the number that it has from the first step on."""
        assert self.chunk_size != "auto", "found by training.step.memory before it is used"
        return self.chunk_size


@dataclass(frozen=True)
class NamedSet:
    """Images that are measured beside the run's own; as a text ``roxford=shards/roxford5k``."""

    name: str
    shards: str
    split: str
    """Empty: as the data's folder says."""

    def __str__(self) -> str:
        """As `named_set` reads it."""
        return f"{self.name}={self.shards}{f':{self.split}' if self.split else ''}"


def named_set(text: str) -> NamedSet:
    """The set that ``text`` names, as NAME=SHARDS or NAME=SHARDS:SPLIT.

    Raises:
        ValueError: it has another form.
    """
    name, _, where = text.partition("=")
    shards, colon, split = where.rpartition(":")
    if not colon or "/" in split:  # that of s3://, or of a port
        shards, colon, split = where, "", ""
    # The name goes into those of MLflow's metrics.
    is_named = re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII)
    if not is_named or not shards or (colon and not split):
        raise ValueError(
            "evaluation.sets must be NAME=SHARDS or NAME=SHARDS:SPLIT, with names of letters, "
            f'digits, ".", "_" and "-", as "roxford=shards/roxford5k"; got {text!r}'
        )
    return NamedSet(name, shards, split)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Retrieval measured on the evaluation split; also before the first and after the last step."""

    every_steps: int = 60
    """Steps between two evaluations."""
    batch_size: int = 256
    """Images described at once."""
    resize: Resize = "crop"
    """crop: the square in the middle of an image; longest: all of it, in its own shape, the longer
    side data.image_size; shrink: the same, but smaller images as they are, as in published
    evaluations of landmarks. A trained model keeps it for all verbs."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the network in evaluations; its descriptors are ranked in float32."""
    sets: tuple[str, ...] = ()
    """Other images to measure beside, NAME=SHARDS or NAME=SHARDS:SPLIT, each by the protocol of its
    folder, as `apdist evaluate` does: some that are not trained on show what training costs there.
    Nothing is chosen by them."""
    sets_every_steps: int = 0
    """Steps between two measurements of sets; 0: before the first step and after the last only."""

    def __post_init__(self) -> None:
        at_least("evaluation.sets_every_steps", self.sets_every_steps, 0)
        names = [found.name for found in self.named_sets]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(
                f"evaluation.sets names two sets {twice[0]!r}; give each a name of its own"
            )
        at_least("evaluation.every_steps", self.every_steps, 1)
        at_least("evaluation.batch_size", self.batch_size, 1)

    @property
    def named_sets(self) -> list[NamedSet]:
        """``sets``, read."""
        return [named_set(text) for text in self.sets]


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state is saved; Ctrl-C and the last step always save it."""

    every_steps: int = 60
    """Steps between two checkpoints."""
    keep: int = 2
    """Newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        at_least("checkpoint.every_steps", self.every_steps, 1)
        at_least("checkpoint.keep", self.keep, 1)
