"""What is known of a published data set before anybody has it: files, splits, counts, addresses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from apdist.data.ground_truth.ground_truth import Protocol

Layout = Literal[
    "cars",
    "classic",
    "cub",
    "distractors",
    "holidays",
    "inaturalist",
    "inshop",
    "landmarks_retrieval",
    "landmarks_train",
    "revisited",
    "sop",
]
"""The readers, each a module of this room or a function of one."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """What a split holds."""

    images: int
    classes: int = 0
    """0 where the images have no labels."""


@dataclass(frozen=True, kw_only=True)
class PublishedSet:
    """One data set; `sets.py` has all of them."""

    name: str
    title: str
    """Its line in the help."""
    layout: Layout
    lists: tuple[str, ...]
    """Files that ROOT holds, or a folder in it; with * for several of a kind."""
    folders: tuple[str, ...] = ("",)
    """Where in ROOT the images lie; of several, those that exist are used."""
    counts: Mapping[str, Count]
    """Of each split, as published."""
    num_queries: int = 0
    """Queries of its own ground truth; 0 where labels say what is relevant."""
    protocol: Protocol = "own"
    """Of its own ground truth."""
    has_boxes: bool = False
    """Whether queries are parts of images, in pixels of the image's file."""
    may_hold_others: bool = False
    """Whether its archives hold pictures that the lists leave out."""
    damaged: frozenset[str] = field(default_factory=frozenset)
    """Names of pictures that its archives hold and that nobody uses."""
    address: str
    """Page or file to download from."""
    checksums: Mapping[str, str] = field(default_factory=dict)
    """MD5 of files behind the address, where two sources say the same."""
