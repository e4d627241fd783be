"""What a training is refused for before it begins."""

from pathlib import Path

import numpy as np
import pytest

from apdist.config import Config, LossConfig, override
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist_verbs.start.checks import (
    check_evaluation_split,
    check_memory,
    check_training_split,
    refuse_unwritable,
    refuse_useless,
)
from apdist_verbs.start.start import read_start


@pytest.fixture
def catalogue(shards: Path) -> Catalogue:
    return read_catalogue(str(shards))


def of_classes(catalogue: Catalogue, *sizes: int) -> Catalogue:
    """A part of ``catalogue`` with as many images of different classes as ``sizes`` say."""
    labels = catalogue.labels
    rows = [np.flatnonzero(labels == label)[:n] for label, n in enumerate(sizes)]
    return catalogue.subset(np.concatenate(rows))


def test_a_split_without_a_possible_query_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="3 images of 3 classes and none with two images"):
        check_evaluation_split(of_classes(catalogue, 1, 1, 1), "test")


def test_a_split_of_one_class_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(ValueError, match="5 images of 1 class, so every order of them has mAP 1"):
        check_evaluation_split(of_classes(catalogue, 5), "test")
    with pytest.raises(ValueError, match="train on at least 2 classes"):
        check_training_split(of_classes(catalogue, 5), "train")


def test_a_split_whose_figures_tell_little_is_said_with_a_number(
    catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    check_evaluation_split(of_classes(catalogue, 5, 5), "test")
    told = capsys.readouterr().err
    assert "only 2 classes: a random order of its 10 images has mAP 0.44 already" in told
    check_evaluation_split(of_classes(catalogue, *[5] * 8), "test")
    assert not capsys.readouterr().err


def test_a_side_that_no_memory_holds_is_refused_with_its_option() -> None:
    sides = {"data.image_size": 32768, "ray.num_workers": 0}
    with pytest.raises(ValueError, match=r"data.image_size 32768: 512 images of a batch take"):
        check_memory(override(Config(), sides | {"data.eval_split": ""}))
    with pytest.raises(ValueError, match=r"256 images of an evaluation \(evaluation.batch_size\)"):
        check_memory(override(Config(), sides | {"training.batch_size": 8, "data.group_size": 4}))
    check_memory(Config())


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="--out .*file/deep.* is no folder; give another"):
        refuse_unwritable("--out", tmp_path / "file" / "deep")
    refuse_unwritable("--out", tmp_path / "new" / "deep")


def test_a_place_that_takes_nothing_is_refused_whatever_its_permissions_say() -> None:
    with pytest.raises(ValueError, match=r"nothing can be made in /proc \(.*\); give another"):
        refuse_unwritable("data.cache_dir", "/proc/x/y")


def test_bins_are_no_option_of_another_loss_where_they_are_typed() -> None:
    _, options = read_start(["glyphs", "--loss.kind", "triplet"])
    assert options.config.loss.num_bins == 40  # the preset's, for the loss that it begins with
    for word in ("--loss.num-bins=40", "--loss.num_bins", "--loss.cache-mib"):
        typed = [word] if "=" in word else [word, "40"]
        with pytest.raises(ValueError, match=r"is no option of triplet, which has margin"):
            read_start(["glyphs", "--loss.kind", "triplet", *typed])


def test_an_option_of_one_of_the_losses_is_welcome() -> None:
    triplet, listwise = LossConfig(kind="triplet", margin=0.3), LossConfig(num_bins=7)
    argv = ["glyphs", "--loss.kind", "ap", "--loss.num-bins", "7", "--loss.margin", "0.3", "--x"]
    refuse_useless(argv, triplet, listwise)
    with pytest.raises(ValueError, match="num_bins 20 is no option of triplet"):
        refuse_useless(argv, triplet)
    refuse_useless(["--loss.margin", "auto"], listwise)
