"""Which protocol is followed, and which is refused."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest

from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.data.ground_truth.ground_truth_file import NAME, write_ground_truth
from apdist.retrieval.protocols.choosing import (
    Protocol,
    ProtocolChoice,
    ProtocolOptions,
    choose_protocol,
)
from apdist_verbs.measure.options import Options
from apdist_verbs.terminal.options import parse
from tests.places import ROOT

BOX = (0.0, 0.0, 5.0, 5.0)
HOLIDAYS = GroundTruth(protocol="holidays", queries=(JudgedQuery(key="q", positives=("a",)),))
REVISITED = GroundTruth(protocol="revisited", queries=(JudgedQuery(key="q", box=BOX, easy=("a",)),))
SPLITS = {"train": 5, "test": 5}
SET = {"query": 2, "database": 9}


def chosen(root: Path, splits: dict[str, int], **wanted: Any) -> ProtocolChoice:
    return choose_protocol(ProtocolOptions(**wanted), str(root), splits)


def test_without_a_ground_truth_labels_are_measured(tmp_path: Path) -> None:
    assert chosen(tmp_path, SPLITS) == ProtocolChoice(protocol="labelled")
    assert chosen(tmp_path, SPLITS | SET, split="test") == ProtocolChoice(protocol="labelled")
    divided = ProtocolChoice(protocol="query-gallery", gallery_split="gallery")
    assert chosen(tmp_path, SPLITS | {"query": 1, "gallery": 2}) == divided
    typed = chosen(tmp_path, SPLITS | {"gallery": 2}, query_split="typo")  # and refused later on
    assert (typed.protocol, typed.gallery_split) == ("query-gallery", "gallery")
    named = {"query_split": "test", "gallery_split": "train"}
    assert chosen(tmp_path, SPLITS, **named) == ProtocolChoice(
        protocol="query-gallery", gallery_split="train"
    )


def test_a_ground_truth_beside_the_shards_says_its_protocol(tmp_path: Path) -> None:
    write_ground_truth(str(tmp_path / NAME), HOLIDAYS)
    found = chosen(tmp_path, SET)
    assert (found.protocol, found.gallery_split) == ("holidays", "database")
    assert found.ground_truth == HOLIDAYS
    assert chosen(tmp_path, SET | SPLITS, split="test").protocol == "labelled"
    assert chosen(tmp_path, SET, protocol="query-gallery").ground_truth is None


def test_a_file_that_is_named_comes_first_and_one_split_is_searched(tmp_path: Path) -> None:
    write_ground_truth(str(tmp_path / NAME), HOLIDAYS)
    (tmp_path / "own.csv").write_text("query,positives\nq,a\n")
    found = chosen(tmp_path, {"pictures": 9}, ground_truth=str(tmp_path / "own.csv"))
    assert (found.protocol, found.gallery_split) == ("own", "pictures")


def test_a_persons_own_file_may_be_scored_by_any_protocol_that_it_fits(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("query,easy,hard,box\nq,a,b,0 0 5 5\n")
    found = chosen(tmp_path, SET, ground_truth=str(tmp_path / "own.csv"), protocol="revisited")
    assert found.protocol == "revisited"
    write_ground_truth(str(tmp_path / NAME), REVISITED)
    assert chosen(tmp_path, SET, protocol="own").protocol == "own"


@pytest.mark.parametrize(
    ("wanted", "splits", "message"),
    [
        ({"protocol": "revisited"}, SET, "needs a ground truth, and .* has no ground_truth.parq"),
        ({"ground_truth": "HOLIDAYS", "protocol": "landmarks"}, SET, "holidays, not landmarks"),
        ({"ground_truth": "UNCROPPED", "protocol": "revisited"}, SET, "uncropped ones inflate"),
        ({"ground_truth": "nowhere.csv"}, SET, "nowhere.csv does not exist"),
        ({"ground_truth": "HOLIDAYS"}, SPLITS, "no split database or gallery to search"),
        ({"ground_truth": "HOLIDAYS", "gallery_split": "x"}, SET, "no split x to search in"),
        ({"ground_truth": "HOLIDAYS", "split": "x"}, SET, "--split x is for images with labels"),
        ({"protocol": "labelled", "query_split": "x"}, SPLITS, "--query-split x is for the proto"),
        ({"gallery_split": "x", "split": "test"}, SPLITS, "--gallery-split x is for the protocol"),
        ({"gallery_split": "nope"}, SPLITS, "no split nope to search in"),
        ({"protocol": "labelled", "distractors": "d"}, SET, "--distractors d is not used"),
        ({"protocol": "query-gallery", "split": "x"}, SET, "--split x is for the labelled"),
        ({"protocol": "query-gallery"}, SPLITS, r"has train \(5 images\), test .*--gallery-sp"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    tmp_path: Path, wanted: dict[str, Any], splits: dict[str, int], message: str
) -> None:
    write_ground_truth(str(tmp_path / "holidays.parquet"), HOLIDAYS)
    (tmp_path / "uncropped.csv").write_text("query,easy,hard\nq,a,b\n")
    files = {"HOLIDAYS": "holidays.parquet", "UNCROPPED": "uncropped.csv"}
    if (name := wanted.get("ground_truth", "")) in files:
        wanted = {**wanted, "ground_truth": str(tmp_path / files[name])}
    with pytest.raises(ValueError, match=message):
        chosen(tmp_path, splits, **wanted)


def test_every_command_of_the_manual_is_one_and_every_protocol_is_in_it() -> None:
    text = (ROOT / "docs" / "protocols.md").read_text()
    commands = re.findall(r"^apdist evaluate(.*?)(?: +#.*)?$", text, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        parse(Options, shlex.split(command), "apdist evaluate")
    assert all(f"`{protocol}`" in text for protocol in get_args(Protocol) if protocol != "auto")
    assert "`--protocol auto`" in text


def test_depths_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="--recall-at must be whole numbers of at least 1"):
        Options(recall_at=(1, 0))
