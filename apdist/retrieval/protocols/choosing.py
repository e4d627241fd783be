"""Which protocol an evaluation follows: what the person says, or what the data's folder does."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from apdist.data import storage

if TYPE_CHECKING:
    from apdist.data.ground_truth.ground_truth import GroundTruth

Protocol: TypeAlias = Literal[
    "auto",
    "labelled",
    "query-gallery",
    "revisited",
    "classic",
    "holidays",
    "landmarks",
    "ilias",
    "own",
]
GALLERIES = ("database", "gallery")
"""Splits that are searched, where nobody names one."""


@dataclass(frozen=True, kw_only=True)
class ProtocolOptions:
    """What a person says of the protocol."""

    protocol: Protocol = "auto"
    ground_truth: str = ""
    distractors: str = ""
    split: str = ""
    query_split: str = "query"
    gallery_split: str = ""


@dataclass(frozen=True, kw_only=True)
class ProtocolChoice:
    """What is measured."""

    protocol: str
    ground_truth: GroundTruth | None = None
    """None: labels are."""
    gallery_split: str = ""
    """The split that is searched; empty in the labelled protocol."""


def choose_protocol(
    wanted: ProtocolOptions, shards: str, splits: dict[str, int], naming: str = "--gallery-split "
) -> ProtocolChoice:
    """The protocol for the images in ``shards``, which have these ``splits``.

    Args:
        wanted: by a person.
        shards: their folder.
        splits: number of images in each.
        naming: what a person writes before the name of the split that is searched.

    Raises:
        ValueError: the protocol lacks what it needs, or other options say something else.
    """
    protocol = wanted.protocol
    beside = ground_truth_beside(shards)
    if protocol == "auto":
        protocol = _told(wanted, bool(beside), splits)
    if protocol in ("labelled", "query-gallery"):
        _refuse_unused(wanted, protocol)
        gallery = _gallery(wanted, shards, splits, naming) if protocol == "query-gallery" else ""
        return ProtocolChoice(protocol=protocol, gallery_split=gallery)
    if wanted.split:
        raise ValueError(
            f"--split {wanted.split} is for images with labels; by a ground truth name the split "
            "that is searched: --gallery-split"
        )
    uri = storage.absolute(wanted.ground_truth) if wanted.ground_truth else beside
    if not uri:
        raise ValueError(
            f"--protocol {protocol} needs a ground truth, and {shards} has no "
            "ground_truth.parquet; prepare the set again, or name a file: --ground-truth FILE"
        )
    from apdist.data.ground_truth.ground_truth_file import read_ground_truth

    found = read_ground_truth(uri)
    chosen = found if wanted.protocol == "auto" else _as(protocol, found, uri)
    return ProtocolChoice(
        protocol=chosen.protocol,
        ground_truth=chosen,
        gallery_split=_gallery(wanted, shards, splits, naming),
    )


def ground_truth_beside(shards: str) -> str:
    """The ground truth that lies beside ``shards``; empty: there is none."""
    from apdist.data.ground_truth.ground_truth_file import NAME

    uri = storage.join(shards, NAME)
    return uri if storage.exists(uri) else ""


def _told(wanted: ProtocolOptions, has_ground_truth: bool, splits: dict[str, int]) -> Protocol:
    if wanted.ground_truth or (has_ground_truth and not wanted.split):
        return "own"  # that of the file takes its place
    if not wanted.split and (
        wanted.gallery_split or wanted.query_split != ProtocolOptions.query_split
    ):
        return "query-gallery"  # somebody typed it: a split that is not there is refused
    is_divided = wanted.query_split in splits and any(name in splits for name in GALLERIES)
    return "query-gallery" if is_divided and not wanted.split else "labelled"


def _as(protocol: str, found: GroundTruth, uri: str) -> GroundTruth:
    """``found`` by another protocol: any may be made of one's own, and one's own of any."""
    if found.protocol != protocol and "own" not in (protocol, found.protocol):
        raise ValueError(
            f"{uri} is a ground truth of the protocol {found.protocol}, not {protocol}; leave out "
            "--protocol"
        )
    try:
        return dataclasses.replace(found, protocol=protocol)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{uri} cannot be scored as {protocol}: {error}") from error


def _gallery(wanted: ProtocolOptions, shards: str, splits: dict[str, int], naming: str) -> str:
    there = [name for name, number in splits.items() if number]
    names = [wanted.gallery_split] if wanted.gallery_split else [*GALLERIES]
    found = [name for name in names if name in there]
    others = [name for name in there if name != wanted.query_split]
    if not found and not wanted.gallery_split and len(others) == 1:
        return others[0]
    if not found:
        listed = ", ".join(f"{name} ({splits[name]} images)" for name in there) or "none"
        raise ValueError(
            f"no split {' or '.join(names)} to search in {storage.shown(shards)}, which has "
            f"{listed}; name one: {naming}{shlex.quote(there[-1]) if there else 'SPLIT'}"
        )
    return found[0]


def _refuse_unused(wanted: ProtocolOptions, protocol: str) -> None:
    for name in ("ground_truth", "distractors"):
        if getattr(wanted, name):
            raise ValueError(
                f"--{name.replace('_', '-')} {getattr(wanted, name)} is not used by the protocol "
                f"{protocol}, which goes by labels; leave it out, or give a ground truth"
            )
    if protocol == "labelled":
        for name in ("query_split", "gallery_split"):
            if getattr(wanted, name) != getattr(ProtocolOptions, name):
                raise ValueError(
                    f"--{name.replace('_', '-')} {getattr(wanted, name)} is for the protocol "
                    "query-gallery; labelled has --split"
                )
    if protocol == "query-gallery" and wanted.split:
        raise ValueError(
            f"--split {wanted.split} is for the labelled protocol; query-gallery has --query-split "
            "and --gallery-split"
        )
