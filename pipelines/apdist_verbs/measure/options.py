"""The options of ``apdist evaluate``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from apdist.retrieval.protocols.choosing import Protocol
from apdist_verbs.describe_options import (
    NOT_AVERAGED,
    PLAIN,
    SHARED,
    DescribeOptions,
    Expansion,
)
from apdist_verbs.terminal.fields import shown_default


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure a trained model, by the protocol that the images are made for."""

    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run."""
    shards: Annotated[str, shown_default("those of the run")] = ""
    """Folder or s3:// prefix with shards."""
    protocol: Protocol = "auto"
    """How it is counted (docs/protocols.md). `auto`: as the ground truth beside the shards says, or
    `query-gallery` where they have splits of these names, or `labelled`."""
    split: Annotated[str, shown_default("the run's evaluation split")] = ""
    """`labelled`: every image of this split is a query against the rest."""
    query_split: str = "query"
    """Split of the queries, of `query-gallery` and of a ground truth."""
    gallery_split: Annotated[str, shown_default("`database` or `gallery`")] = ""
    """Split that is searched."""
    ground_truth: Annotated[str, shown_default("`ground_truth.parquet` beside the shards")] = ""
    """Parquet or CSV file with the columns query, positives, junk, box."""
    distractors: str = ""
    """Folder of `apdist extract` with descriptors that are right for no query."""
    recall_at: tuple[int, ...] = (1, 5, 10)
    """The k of R@k, of `labelled` and `query-gallery`."""
    descriptors: Annotated[str, shown_default("none: images are described")] = ""
    """Folder of `apdist extract` with the descriptors of the shards. Queries that are cut out of
    images are described nevertheless, in the same way."""
    json: Annotated[str, shown_default("`figures_PROTOCOL.json` in the run's folder")] = ""
    """File for the figures."""
    describing: Annotated[DescribeOptions, SHARED] = PLAIN
    expansion: Annotated[Expansion, SHARED] = NOT_AVERAGED

    def __post_init__(self) -> None:
        typed = " ".join(map(str, self.recall_at))
        if not self.recall_at or min(self.recall_at) < 1:
            raise ValueError(
                f"--recall-at must be whole numbers of at least 1, as 1 10 100, got {typed!r}"
            )
        if len(set(self.recall_at)) < len(self.recall_at):
            raise ValueError(f"--recall-at names a number twice: {typed}; give each once")
