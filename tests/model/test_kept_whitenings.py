"""Whitenings in a run's folder: kept, listed and found by name, or refused with what there is."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from apdist.model.kept_whitenings import (
    find_whitening,
    keep_whitening,
    refuse_if_learned_from,
    refuse_other_model,
    whitening_names,
)
from apdist.model.whitening import Whitening, save_whitening

WHITENING = Whitening(mean=torch.zeros(3), projection=torch.eye(3)[:2], learned_on="a set")


@pytest.mark.parametrize("name", ["Landmarks_clean", "of a/b: ü", "..", "x.safetensors"])
def test_a_whitening_that_is_kept_is_found_by_its_name(tmp_path: Path, name: str) -> None:
    keep_whitening(WHITENING, str(tmp_path), name)
    assert whitening_names(str(tmp_path)) == [name]
    found = find_whitening(str(tmp_path), name, 3)
    assert torch.equal(found.projection, WHITENING.projection)
    assert found.learned_on == "a set"
    assert [path.name for path in tmp_path.iterdir()] == ["whitening"]


def test_a_whitening_is_found_by_the_path_of_its_file(tmp_path: Path) -> None:
    save_whitening(WHITENING, tmp_path / "own.safetensors")
    found = find_whitening(str(tmp_path / "run"), str(tmp_path / "own.safetensors"), 3)
    assert found.learned_on == "a set"


def test_what_is_not_there_or_for_other_descriptors_is_refused(tmp_path: Path) -> None:
    run = str(tmp_path)
    with pytest.raises(ValueError, match="has no whitening 'x': it has none; give"):
        find_whitening(run, "x", 3)
    keep_whitening(WHITENING, run, "Landmarks_clean")
    with pytest.raises(ValueError, match="it has Landmarks_clean; did you mean 'Landmarks_clean'?"):
        find_whitening(run, "landmark_clean", 3)
    with pytest.raises(ValueError, match="descriptors of 3 numbers, and those of .* have 4"):
        find_whitening(run, "Landmarks_clean", 4)
    with pytest.raises(ValueError, match="none.safetensors cannot be read as a whitening"):
        find_whitening(run, "none.safetensors", 4)


def test_a_whitening_is_refused_on_the_images_that_it_was_learned_from(tmp_path: Path) -> None:
    own = replace(WHITENING, images="0123")
    keep_whitening(own, str(tmp_path), "own")
    found = find_whitening(str(tmp_path), "own", 3)
    with pytest.raises(
        ValueError, match=r"was learned from the split 'test' \(a set\): figures on"
    ):
        refuse_if_learned_from(found, "0123", "the split 'test'")
    refuse_if_learned_from(found, "4567", "the split 'test'")
    refuse_if_learned_from(WHITENING, "", "the split 'test'")


def test_a_whitening_of_another_model_is_refused_where_that_is_known() -> None:
    refuse_other_model(WHITENING, "0123")  # of a published file
    refuse_other_model(replace(WHITENING, model="0123"), "0123")
    with pytest.raises(ValueError, match="'a set' was learned with model 4567, and this one is 01"):
        refuse_other_model(replace(WHITENING, model="4567"), "0123")
