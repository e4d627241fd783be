"""All options of one training run; one dotted name for command line, sweep and MLflow."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from apdist.addresses import without_any
from apdist.config.data import AugmentConfig, DataConfig
from apdist.config.json_text import read_json
from apdist.config.lora import LoraConfig
from apdist.config.loss_section import LossConfig
from apdist.config.model import ModelConfig
from apdist.config.run import AUTO, RayConfig, RunConfig, TrackingConfig
from apdist.config.training import CheckpointConfig, EvaluationConfig, TrainingConfig
from apdist.config.values import checked, suggestion


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything one training run depends on."""

    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        # What auto stands for is looked at again, in the options that have the number.
        is_known = self.ray.num_workers != AUTO
        if self.training.parameters == "sharded" and is_known and self.ray.least_workers < 2:
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
        by_section.setdefault(section, {})[option] = checked(name, value, kind)
    sections = {
        section: dataclasses.replace(getattr(config, section), **options)
        for section, options in by_section.items()
    }
    return dataclasses.replace(config, **sections)


def to_json(config: Config) -> str:
    """The resolved config as nested JSON, its addresses without secrets: it is written down."""
    return json.dumps(without_any(dataclasses.asdict(config)), indent=2)


def from_json(text: str) -> Config:
    """Read what `to_json` wrote.

    Raises:
        ValueError: not JSON, or an option that this version does not know.
    """
    nested = read_json(text)
    if not isinstance(nested, dict) or not all(isinstance(o, dict) for o in nested.values()):
        raise ValueError('expected sections with options, as in {"loss": {"num_bins": 20}}')
    return override(
        Config(), {f"{s}.{name}": v for s, options in nested.items() for name, v in options.items()}
    )


def config_hash(config: Config) -> str:
    """Short hash of what decides the result: data, augmentation, model, loss and training."""
    # Through JSON as in a run's folder: 10 and 10.0 are equal options and must have one hash, and a
    # signature that expires is no part of it.
    options = flatten(from_json(to_json(config)))
    decisive = {name: value for name, value in options.items() if is_decisive(name, config)}
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:12]


def is_decisive(name: str, config: Config) -> bool:
    """Whether the option of this dotted name decides what is learned at a step.

    All others may change from one part of a run to the next.
    """
    if name == "training.steps":
        return config.training.depends_on_steps
    return not name.startswith(_FREE)


_FREE = (
    *("evaluation.", "checkpoint.", "ray.", "tracking.", "run."),
    *("data.loader_", "data.cache_", "data.read_", "training.patience"),
)
"""How the names of options begin that decide where and how fast, and what is told."""
