"""What can be configured: frozen dataclasses, one dotted name for command line, sweep and MLflow.

Importing this module must stay cheap (no torch, no Ray): ``apdist --help`` reads it.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images come from and how a global batch is composed."""

    shards: str = "data/glyphs"
    """Folder or s3:// prefix with WebDataset shards and their index.parquet."""
    train_split: str = "train"
    """Split of the index that is trained on."""
    eval_split: str = "test"
    """Split that is evaluated; its classes should be unseen. Empty: no evaluation."""
    image_size: int = 64
    """Side in pixels of the square crop that the network sees."""
    holdout_share: float = 0.0
    """Share of the training split that is kept out of it; `--data.eval-split holdout` evaluates on
    it. 0: none."""
    holdout_by: Literal["class", "image"] = "class"
    """Hold out whole classes (unseen, as in retrieval), or images of any class."""
    exclude: str = ""
    """Text file of images that are not trained on, one entry a line: a key, or class:NAME for a
    whole class; a line that begins with # is a comment. Empty: none."""
    group_size: int = 8
    """Most images of one class that enter a batch together, at least 2: each query has a positive.
    All of a class are used, in groups of nearly equal size; with class weights, a cap or a number
    of classes, groups are of exactly this size, or a whole smaller class."""
    class_weights: Literal["images", "classes", "sqrt"] = "images"
    """How often a class comes up: as it has images, all alike, or the square root of its images."""
    classes_per_batch: int = 0
    """Exact number of different classes in a batch, each with one group; 0: as it comes."""
    max_groups_per_class: int = 0
    """Most groups of one class in a batch, whatever its weight; 0: as it comes."""
    on_corrupt: Literal["error", "replace"] = "error"
    """What to do with an image that cannot be read: stop, or take another one of its class."""
    loader_processes: int = 2
    """Processes per worker that read and decode images; 0: threads of the worker itself."""
    loader_threads: int = 1
    """Images that each of them decodes at once."""
    loader_reads: int = 8
    """Reads that each of them has under way meanwhile: they hide the latency of object storage."""
    read_ahead_mib: int = 1024
    """Memory per worker for images that are read before they are needed, beside those in use: a
    quarter of it for encoded ones, the rest for whole batches of decoded ones."""
    read_deadline_s: float = 120.0
    """Seconds after which a read that keeps failing ends the run."""
    cache_dir: str = ""
    """Folder on a local disk that keeps whole shards; empty: none."""
    cache_gib: float = 50.0
    """Size at which the cache drops the shards that were used longest ago."""

    def __post_init__(self) -> None:
        _at_least("data.image_size", self.image_size, 8)
        _at_least("data.group_size", self.group_size, 2)
        _at_least("data.classes_per_batch", self.classes_per_batch, 0)
        _at_least("data.max_groups_per_class", self.max_groups_per_class, 0)
        if not 0 <= self.holdout_share < 1:
            raise ValueError(f"data.holdout_share must lie in [0, 1), got {self.holdout_share}")
        _at_least("data.loader_threads", self.loader_threads, 1)
        _at_least("data.loader_reads", self.loader_reads, 1)
        _at_least("data.loader_processes", self.loader_processes, 0)
        _at_least("data.read_ahead_mib", self.read_ahead_mib, 1)
        _in_range("data.read_deadline_s", self.read_deadline_s, 0.1, 86400)
        _in_range("data.cache_gib", self.cache_gib, 0.001, float("inf"))
        if not self.shards:
            raise ValueError("data.shards is empty; give the folder that `apdist prepare` wrote")

    @property
    def num_decoders(self) -> int:
        """Images that a worker decodes at once."""
        return max(1, self.loader_processes) * self.loader_threads


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes to a training image, drawn anew in each epoch (seeded by its key)."""

    min_scale: float = 0.8
    """Smallest side of the random crop, as a share of the image's shorter side."""
    max_scale: float = 1.0
    """Largest side of the random crop; above 1 the crop reaches beyond the image."""
    rotation_degrees: float = 10.0
    """Largest rotation either way."""
    colour_jitter: float = 0.2
    """Largest relative change of brightness, contrast and saturation."""
    flip_probability: float = 0.0
    """Chance of a horizontal flip."""

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= self.max_scale <= 2:
            raise ValueError(
                "augment.min_scale and augment.max_scale must satisfy 0 < min <= max <= 2, "
                f"got {self.min_scale} and {self.max_scale}"
            )
        _in_range("augment.rotation_degrees", self.rotation_degrees, 0, 180)
        _in_range("augment.colour_jitter", self.colour_jitter, 0, 1)
        _in_range("augment.flip_probability", self.flip_probability, 0, 1)


BACKBONES = ("small", "resnet18", "resnet50", "resnet101", "efficientnet_lite0")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Backbone -> GeM -> (L2) -> linear -> L2."""

    backbone: str = "small"
    """Network under the pooling: small, resnet18, resnet50, resnet101, efficientnet_lite0
    (pretrained; extra `lite0`), or hub:NAME, a vision model of transformers (extra `hub`)."""
    weights: str = ""
    """File with backbone weights (.safetensors or .pth); empty: the backbone's own start."""
    dim: int = 128
    """Size of the descriptor."""
    gem_p: float = 3.0
    """Start of the learnable GeM exponent."""
    norm_before_linear: bool = False
    """Put an L2 norm between GeM and the linear layer; published models differ in this."""
    batch_norm: Literal["frozen", "chunk"] = "frozen"
    """Keep batch-norm statistics fixed (exact full-batch gradient), or take those of each chunk."""

    def __post_init__(self) -> None:
        _at_least("model.dim", self.dim, 2)
        if self.backbone not in BACKBONES and not self.backbone.startswith("hub:"):
            raise ValueError(
                f"model.backbone must be one of {', '.join(BACKBONES)} or hub:NAME, "
                f"got {self.backbone!r}"
            )
        if self.gem_p <= 0:
            raise ValueError(f"model.gem_p must be positive, got {self.gem_p}")


LOSSES = (
    *("ap", "tie_aware", "tie_aware_simplified"),
    *("triplet", "contrastive", "multi_similarity", "smooth_ap", "recall_at_k"),
)


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Listwise average-precision loss (Revaud et al., 2019), or one to compare with."""

    kind: str = "ap"
    """ap, tie_aware or tie_aware_simplified (listwise, any batch size); to compare with: triplet,
    contrastive, multi_similarity, smooth_ap, recall_at_k, or pml:NAME, a loss of
    pytorch-metric-learning (extra `metric-learning`)."""
    num_bins: int = 20
    """Histogram bins over cosine similarity; more bins rank finer, cost time and wrong signs."""
    min_score: float = -1.0
    """Similarity at the centre of the last bin."""
    max_score: float = 1.0
    """Similarity at the centre of the first bin."""
    cache_mib: int | Literal["auto"] = "auto"
    """Memory in MiB for one byte a pair of images that saves up to a third of the loss's time;
    auto: 256, on a GPU half of what is free if that is more."""
    precision: Literal["float32", "bf16x3"] = "float32"
    """Products of the descriptors: float32, or three of bfloat16 with an error near that of
    float32, some three times faster on a GPU (on a CPU slower: for tests)."""

    def __post_init__(self) -> None:
        if self.kind not in LOSSES and not self.kind.startswith("pml:"):
            raise ValueError(
                f"loss.kind must be one of {', '.join(LOSSES)} or pml:NAME, got {self.kind!r}"
                f"{suggestion(self.kind, list(LOSSES))}"
            )
        if self.cache_mib != "auto":
            _at_least("loss.cache_mib", self.cache_mib, 0)
        _at_least("loss.num_bins", self.num_bins, 2)
        if not self.min_score < self.max_score:
            raise ValueError(
                f"loss.min_score {self.min_score} must be below loss.max_score {self.max_score}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The global step and the loop around it."""

    batch_size: int = 512
    """Images in the global AP batch, over all workers together."""
    chunk_size: int = 128
    """Images that go through the network at once; bounds memory, not the result."""
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
    schedule: Literal["one_cycle", "linear", "constant"] = "one_cycle"
    """Rise and cosine fall, linear fall to 0, or no change."""
    warmup_share: float = 0.2
    """Share of the steps that the one_cycle schedule rises."""
    clip_norm: float = 0.0
    """Largest norm of the global gradient; 0 leaves it as it is."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the network's forward and backward passes; the loss is always exact."""
    compile: bool = False
    """Compile the network with torch.compile, for both passes."""
    seed: int = 0
    """Seed of weights, batches, augmentation and dropout."""

    def __post_init__(self) -> None:
        _at_least("training.batch_size", self.batch_size, 4)
        if self.batch_size % 2:
            raise ValueError(f"training.batch_size must be even, got {self.batch_size}")
        _at_least("training.chunk_size", self.chunk_size, 1)
        _at_least("training.steps", self.steps, 1)
        _at_least("training.accumulate", self.accumulate, 1)
        _in_range("training.memory_gib", self.memory_gib, 0, float("inf"))
        _at_least("training.seed", self.seed, 0)
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"training.learning_rate must be positive, got {self.learning_rate}")
        _in_range("training.weight_decay", self.weight_decay, 0, 10)
        _in_range("training.warmup_share", self.warmup_share, 0, 1)
        _in_range("training.clip_norm", self.clip_norm, 0, float("inf"))


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Retrieval measured on the evaluation split; also before the first and after the last step."""

    every_steps: int = 60
    """Steps between two evaluations."""
    batch_size: int = 256
    """Images described at once."""

    def __post_init__(self) -> None:
        _at_least("evaluation.every_steps", self.every_steps, 1)
        _at_least("evaluation.batch_size", self.batch_size, 1)


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When the state is saved; Ctrl-C and the last step always save it."""

    every_steps: int = 60
    """Steps between two checkpoints."""
    keep: int = 2
    """Newest checkpoints that are kept."""

    def __post_init__(self) -> None:
        _at_least("checkpoint.every_steps", self.every_steps, 1)
        _at_least("checkpoint.keep", self.keep, 1)


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """The cluster and the workers on it."""

    address: str = "local"
    """`local` starts Ray on this machine (in a submitted job: joins the job's cluster); `auto` or
    host:port joins a running cluster."""
    num_workers: int = 2
    """Worker processes; 0 trains in this process, without Ray."""
    use_gpu: bool = False
    """One GPU for each worker."""
    cpus_per_worker: int = 1
    """CPUs reserved for each worker; also its torch threads."""
    autoscaling: bool = False
    """The cluster grows on demand: wait for nodes instead of refusing too many workers."""
    max_failures: int = 3
    """Worker or node failures after which the run gives up."""

    def __post_init__(self) -> None:
        host, _, port = self.address.rpartition(":")
        is_host_and_port = host and "/" not in host and port.isdigit()
        if self.address not in ("local", "auto") and not is_host_and_port:
            raise ValueError(
                "ray.address must be local, auto or HOST:PORT, where PORT is that of the cluster's "
                f"head, often 6379; got {self.address!r}"
            )
        _at_least("ray.num_workers", self.num_workers, 0)
        _at_least("ray.cpus_per_worker", self.cpus_per_worker, 1)
        _at_least("ray.max_failures", self.max_failures, 0)
        if self.use_gpu and self.num_workers == 0:
            raise ValueError(
                "ray.use_gpu needs ray.num_workers of at least 1: with 0 the training runs in this "
                "process, on the CPU; use --ray.num-workers 1, or leave out --ray.use-gpu"
            )


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """MLflow."""

    enabled: bool = True
    """Log parameters, curves and the report."""
    uri: str = "sqlite:///mlflow.db"
    """Tracking store: sqlite:///FILE, or the http(s):// address of a server."""
    experiment: str = "apdist"
    """Experiment that holds the runs."""

    def __post_init__(self) -> None:
        if self.uri.startswith("file:") or "://" not in self.uri:
            raise ValueError(
                f"tracking.uri {self.uri!r} is not a store that MLflow accepts; "
                "use sqlite:///FILE or http://HOST:PORT"
            )


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The folder of this run."""

    output: str = "runs"
    """Folder or s3:// prefix in which the run's folder is made."""
    name: str = ""
    """Name of the run's folder; empty: preset, date and time. An existing one is refused."""

    def __post_init__(self) -> None:
        if self.name and (set(self.name) & set("/\\:") or self.name.startswith(".")):
            raise ValueError(
                f"run.name {self.name!r} must be a plain folder name: no / \\ : and no leading dot"
            )


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything one training run depends on."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if self.training.parameters == "sharded" and self.ray.num_workers < 2:
            raise ValueError(
                "training.parameters sharded needs ray.num_workers of at least 2, "
                f"got {self.ray.num_workers}"
            )
        if self.data.group_size > self.training.batch_size:
            raise ValueError(
                f"data.group_size {self.data.group_size} exceeds training.batch_size "
                f"{self.training.batch_size}; a batch needs at least one whole group"
            )


def flatten(config: Config) -> dict[str, Any]:
    """Every option as ``{"loss.num_bins": 20, ...}``."""
    return {
        f"{section.name}.{option.name}": getattr(getattr(config, section.name), option.name)
        for section in dataclasses.fields(config)
        for option in dataclasses.fields(getattr(config, section.name))
    }


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """``config`` with the dotted names in ``changes`` replaced.

    Raises:
        ValueError: a name does not exist or a value has the wrong type or range.
    """
    known = flatten(config)
    by_section: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        if name not in known:
            raise ValueError(f"unknown option {name!r}{suggestion(name, known)}")
        section, option = name.split(".")
        kind = get_type_hints(type(getattr(config, section)))[option]
        by_section.setdefault(section, {})[option] = _checked(name, value, kind)
    sections = {
        section: dataclasses.replace(getattr(config, section), **options)
        for section, options in by_section.items()
    }
    return dataclasses.replace(config, **sections)


def suggestion(name: str, known: Mapping[str, Any] | list[str]) -> str:
    """``; did you mean X?`` for the closest known name, or nothing."""
    import difflib

    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def to_json(config: Config) -> str:
    """The resolved config as nested JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def from_json(text: str) -> Config:
    """Read what `to_json` wrote.

    Raises:
        ValueError: not JSON, or an option that this version does not know.
    """
    nested = json.loads(text)
    if not isinstance(nested, dict) or not all(isinstance(o, dict) for o in nested.values()):
        raise ValueError('expected sections with options, as in {"loss": {"num_bins": 20}}')
    return override(
        Config(), {f"{s}.{name}": v for s, options in nested.items() for name, v in options.items()}
    )


def config_hash(config: Config) -> str:
    """Short hash of what decides the result: data, augmentation, model, loss and training."""
    # Through JSON as in a run's folder: 10 and 10.0 are equal options and must have one hash.
    nested = dataclasses.asdict(from_json(to_json(config)))
    decisive = {name: nested[name] for name in ("data", "augment", "model", "loss", "training")}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def _checked(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {value!r}")
        return value
    if get_origin(kind) is Union:
        number, words = get_args(kind)
        if not isinstance(value, str):
            return _checked(name, value, number)
        if value not in get_args(words):
            choices = ", ".join(get_args(words))
            raise ValueError(
                f"{name} must be of type {number.__name__} or {choices}, got {value!r}"
            )
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} must be of type {kind.__name__}, got {value!r}")
    return value


def _at_least(name: str, value: int, smallest: int) -> None:
    if value < smallest:
        raise ValueError(f"{name} must be at least {smallest}, got {value}")


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low}, {high}], got {value}")
