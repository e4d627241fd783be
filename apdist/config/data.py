"""Options of the data: where images come from, how a batch is made of them."""

import re
from dataclasses import dataclass
from typing import Literal

from apdist.config.values import at_least, in_range, suggestion

MOST_PIXELS = 1 << 15
"""Largest side of an image; 3 GiB for a single one."""
DECODERS = ("auto", "pillow", "simplejpeg")
_WITH_VERSIONS = re.compile(r"(simplejpeg-[\w.]+\+opencv-[\w.]+\+)?pillow-[\w.]+")
"""A decoder as a run keeps it; see `apdist.data.decoders`."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images come from and how a global batch is composed."""

    shards: str = "data/glyphs"
    """Folder, s3:// prefix or https:// address with WebDataset shards and their catalogue,
    index.parquet. An address is written down without its signature or password."""
    train_split: str = "train"
    """Split of the catalogue that is trained on."""
    eval_split: str = "test"
    """Split that the training is measured on, before its first step and after its last; its classes
    should be unseen. Nothing is chosen by it. Empty: none."""
    validation_split: str = ""
    """Split that is measured as training goes on, and by which weights are chosen. Empty: what is
    held out of the training split."""
    image_size: int = 64
    """Side in pixels of the square crop that the network sees; 0: the side that its backbone was
    trained with, which the run then notes here."""
    holdout_share: float | Literal["auto"] = "auto"
    """Share of the training split that is kept out of it, to choose weights by. auto: a tenth, none
    where that is less than five classes. 0: none."""
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
    decoder: str = "auto"
    """Who makes training images of JPEGs: pillow; simplejpeg, with OpenCV (extra `fast-decode`); or
    auto, the second where it is installed. A run keeps what it began with, and its versions."""
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
        if self.image_size:
            in_range("data.image_size", self.image_size, 8, MOST_PIXELS)
        at_least("data.group_size", self.group_size, 2)
        at_least("data.classes_per_batch", self.classes_per_batch, 0)
        at_least("data.max_groups_per_class", self.max_groups_per_class, 0)
        if self.holdout_share != "auto" and not 0 <= self.holdout_share < 1:
            raise ValueError(f"data.holdout_share must lie in [0, 1), got {self.holdout_share}")
        if self.validation_split and self.validation_split in (self.train_split, self.eval_split):
            raise ValueError(
                f"data.validation_split {self.validation_split!r} is also what is "
                f"{'trained on' if self.validation_split == self.train_split else 'reported on'}: "
                "weights that are chosen by it flatter themselves; name another split, or leave it "
                "out"
            )
        if self.validation_split and self.holdout_share not in ("auto", 0):
            raise ValueError(
                f"data.validation_split {self.validation_split!r} and data.holdout_share "
                f"{self.holdout_share} are two ways to choose weights; give one of them"
            )
        at_least("data.loader_threads", self.loader_threads, 1)
        at_least("data.loader_reads", self.loader_reads, 1)
        at_least("data.loader_processes", self.loader_processes, 0)
        at_least("data.read_ahead_mib", self.read_ahead_mib, 1)
        in_range("data.read_deadline_s", self.read_deadline_s, 0.1, 86400)
        in_range("data.cache_gib", self.cache_gib, 0.001, float("inf"))
        if self.decoder not in DECODERS and not _WITH_VERSIONS.fullmatch(self.decoder):
            raise ValueError(
                f"data.decoder must be one of {', '.join(DECODERS)}, or one of them with its "
                f"versions as config.json has it, got {self.decoder!r}"
                f"{suggestion(self.decoder, list(DECODERS))}"
            )
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
        in_range("augment.rotation_degrees", self.rotation_degrees, 0, 180)
        in_range("augment.colour_jitter", self.colour_jitter, 0, 1)
        in_range("augment.flip_probability", self.flip_probability, 0, 1)
