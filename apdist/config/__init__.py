"""What can be configured: frozen dataclasses, one dotted name for command line, sweep and MLflow.

Importing this package must stay cheap (no torch, no Ray): ``apdist --help`` reads it.
"""

from apdist.config.config import (
    Config,
    config_hash,
    flatten,
    from_json,
    is_decisive,
    override,
    to_json,
)
from apdist.config.data import AugmentConfig, DataConfig
from apdist.config.lora import LoraConfig
from apdist.config.loss_section import LossConfig
from apdist.config.model import ModelConfig
from apdist.config.run import RayConfig, RunConfig, TrackingConfig
from apdist.config.training import CheckpointConfig, EvaluationConfig, TrainingConfig
from apdist.config.values import suggestion

__all__ = [
    "AugmentConfig",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "LoraConfig",
    "LossConfig",
    "ModelConfig",
    "RayConfig",
    "RunConfig",
    "TrackingConfig",
    "TrainingConfig",
    "config_hash",
    "flatten",
    "from_json",
    "is_decisive",
    "override",
    "suggestion",
    "to_json",
]
