from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apdist.config import DataConfig
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.catalogue.selection import (
    FEWEST_CLASSES,
    evaluation_images,
    held_out_images,
    images_of,
    sharing_images,
    training_images,
    validation_images,
)
from tests.pictures import write_small_set


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return write_small_set(tmp_path_factory.mktemp("shards"))


def keys(catalogue: Catalogue) -> set[str]:
    return set(catalogue.column("key").to_pylist())


def write_list(folder: Path, text: str) -> DataConfig:
    (folder / "list.txt").write_text(text, encoding="utf-8")
    return DataConfig(exclude=str(folder / "list.txt"))


def test_without_options_the_splits_of_the_catalogue_are_used(catalogue: Catalogue) -> None:
    assert keys(training_images(catalogue, DataConfig(), 0)) == keys(catalogue.select("train"))
    assert keys(evaluation_images(catalogue, DataConfig(), 0)) == keys(catalogue.select("test"))


def test_excluded_images_and_classes_are_not_trained_on(
    catalogue: Catalogue, tmp_path: Path
) -> None:
    data = write_list(
        tmp_path, "\ufeff# bad\n\nclass_4/picture_1\n class: class 5 \nclass:class 0\n"
    )
    left_out = keys(catalogue.select("train")) - keys(training_images(catalogue, data, 0))
    assert left_out == {"class_4/picture_1"} | {f"class_5/picture_{n}" for n in range(6)}
    assert keys(evaluation_images(catalogue, data, 0)) == keys(catalogue.select("test"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("class_4/picture_1\nclass 5", "no image has the key 'class 5' .1 in all"),
        ("class:class 5\nclass:5", "no class is named '5'"),
        ("a\nb\nc\nd\na", "'a', 'b', 'c', ... .4 in all"),
    ],
)
def test_an_entry_that_is_not_in_the_catalogue_is_refused(
    catalogue: Catalogue, tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        training_images(catalogue, write_list(tmp_path, text), 0)


def test_a_list_that_is_missing_or_no_text_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data.exclude: .* is a folder, where a file is expected"):
        training_images(catalogue, DataConfig(exclude=str(tmp_path)), 0)
    with pytest.raises(ValueError, match="data.exclude: .*list.txt does not exist"):
        training_images(catalogue, DataConfig(exclude=str(tmp_path / "list.txt")), 0)
    data = write_list(tmp_path, "")
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file in UTF-8"):
        training_images(catalogue, data, 0)


def test_a_list_of_all_that_is_trained_on_is_refused(catalogue: Catalogue, tmp_path: Path) -> None:
    data = write_list(tmp_path, "\n".join(keys(catalogue.select("train"))))
    with pytest.raises(ValueError, match="list.txt excludes all training images"):
        training_images(catalogue, data, 0)


def test_held_out_classes_are_evaluated_and_not_trained_on(catalogue: Catalogue) -> None:
    data = DataConfig(holdout_share=0.25, eval_split="holdout")
    trained, held_out = training_images(catalogue, data, 0), evaluation_images(catalogue, data, 0)
    assert len(np.unique(held_out.labels)) == 2
    assert not set(trained.labels) & set(held_out.labels)
    assert keys(trained) | keys(held_out) == keys(catalogue.select("train"))
    others = evaluation_images(catalogue, data, 1)
    assert keys(others) != keys(held_out)


def test_the_training_split_shares_images_with_what_is_held_out_of_it(
    catalogue: Catalogue,
) -> None:
    data = DataConfig(holdout_share=0.25)
    held_out = images_of("holdout", catalogue, data, 0)
    (found,) = sharing_images("train", catalogue, data, 0).items()
    assert (found[0], keys(found[1])) == ("holdout", keys(held_out))
    (found,) = sharing_images("holdout", catalogue, data, 0).items()
    assert (found[0], keys(found[1])) == ("train", keys(catalogue.select("train")))
    assert not sharing_images("test", catalogue, data, 0)
    assert not sharing_images("train", catalogue, DataConfig(holdout_share=0), 0)


def test_held_out_images_are_of_classes_that_are_trained_on(catalogue: Catalogue) -> None:
    data = DataConfig(holdout_share=0.25, holdout_by="image", eval_split="holdout")
    trained, held_out = training_images(catalogue, data, 0), evaluation_images(catalogue, data, 0)
    assert len(held_out) == 12
    assert set(held_out.labels) <= set(trained.labels)
    assert keys(trained) | keys(held_out) == keys(catalogue.select("train"))
    assert not keys(trained) & keys(held_out)


def test_what_is_excluded_is_not_held_out_either(catalogue: Catalogue, tmp_path: Path) -> None:
    listed = write_list(tmp_path, "class:class 4\nclass:class 5\nclass:class 6\nclass:class 7")
    data = DataConfig(exclude=listed.exclude, holdout_share=0.5, eval_split="holdout")
    assert len(np.unique(evaluation_images(catalogue, data, 0).labels)) == 2
    assert set(evaluation_images(catalogue, data, 0).labels) <= {8, 9, 10, 11}


def test_a_share_that_holds_out_nothing_or_all_is_refused(catalogue: Catalogue) -> None:
    for share, what in ((0.01, "none"), (0.99, "all")):
        with pytest.raises(ValueError, match=f"holds out {what} of the 48 training images"):
            training_images(catalogue, DataConfig(holdout_share=share), 0)


@pytest.mark.parametrize("share", [0.0, "auto"])
def test_what_is_not_held_out_cannot_be_measured(catalogue: Catalogue, share: Any) -> None:
    data = DataConfig(eval_split="holdout", holdout_share=share)  # auto: 8 classes are too few
    with pytest.raises(ValueError, match="give a share: --data.holdout-share"):
        evaluation_images(catalogue, data, 0)
    assert validation_images(catalogue, data, 0) is None


def test_a_tenth_of_the_classes_is_held_out_where_it_is_enough_to_choose_by(tmp_path: Path) -> None:
    wanted = 10 * FEWEST_CLASSES
    catalogue = write_small_set(tmp_path, num_classes=wanted, images_per_class=2, num_test=0)
    trained, held_out = (
        images_of_run(catalogue, DataConfig(), 0) for images_of_run in (training_images, chosen_by)
    )
    assert len(np.unique(held_out.labels)) == FEWEST_CLASSES
    assert keys(trained) | keys(held_out) == keys(catalogue)
    assert not set(trained.labels) & set(held_out.labels)
    assert keys(images_of("holdout", catalogue, DataConfig(), 0)) == keys(held_out)
    # What is chosen by comes from elsewhere: nothing is taken from the training.
    own = DataConfig(validation_split="val")
    assert keys(training_images(catalogue, own, 0)) == keys(catalogue)
    # Of single images of many classes none has another to be found by.
    assert validation_images(catalogue, DataConfig(holdout_by="image"), 0) is None
    fewer = catalogue.subset(np.flatnonzero(catalogue.labels < wanted - 6))
    assert validation_images(fewer, DataConfig(), 0) is None
    assert keys(training_images(fewer, DataConfig(), 0)) == keys(fewer)


def chosen_by(catalogue: Catalogue, data: DataConfig, seed: int) -> Catalogue:
    found = validation_images(catalogue, data, seed)
    assert found is not None
    return found


def test_a_split_of_its_own_to_choose_by_takes_nothing_from_the_training(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    data = DataConfig(validation_split="test", eval_split="")
    assert keys(training_images(catalogue, data, 0)) == keys(catalogue.select("train"))
    assert keys(chosen_by(catalogue, data, 0)) == keys(catalogue.select("test"))
    with pytest.raises(ValueError, match="two ways to choose weights; give one of them"):
        DataConfig(validation_split="val", holdout_share=0.1)
    for own, what in (("train", "trained on"), ("test", "reported on")):
        with pytest.raises(ValueError, match=f"{own}' is also what is {what}"):
            DataConfig(validation_split=own)
    with pytest.raises(ValueError, match="split 'tset' is not in"):
        validation_images(catalogue, DataConfig(validation_split="tset"), 0)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=60),
    st.floats(0, 0.99),
    st.floats(0, 0.99),
    st.sampled_from(["class", "image"]),
)
def test_a_larger_share_holds_out_more_and_never_others(
    labels: list[int], share: float, larger: float, by: str
) -> None:
    share, larger = sorted([share, larger])
    few, many = (held_out_images(np.array(labels), s, by, 7) for s in (share, larger))
    assert not (few & ~many).any()
    if by == "image":
        assert few.sum() == round(share * len(labels))
    else:
        assert len({label for label, out in zip(labels, few, strict=True) if out}) == round(
            share * len(set(labels))
        )


def test_what_is_held_out_is_this_on_every_machine() -> None:
    # Figures of a run: another machine or version must train on the same images.
    labels = np.repeat(np.arange(20), 2)
    assert np.flatnonzero(held_out_images(labels, 0.2, "class", 5)).tolist() == [
        20,
        21,
        24,
        25,
        28,
        29,
        36,
        37,
    ]
    assert np.flatnonzero(held_out_images(labels, 0.1, "image", 5)).tolist() == [12, 18, 20, 26]
