"""What a training is refused for before it begins."""

from pathlib import Path

import numpy as np
import pytest

from apdist.config import Config, LossConfig, ModelConfig, override
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.preparing.shards import Item, write_shards
from apdist.model.descriptor import DescriptorNet
from apdist_verbs.start.checks import (
    check_evaluation_split,
    check_images,
    check_memory,
    check_sets,
    check_start,
    check_training_split,
    refuse_unwritable,
    refuse_useless,
    warn_of_no_effect,
)
from apdist_verbs.start.start import read_start
from tests.pictures import encode_picture, refuse
from tests.tiny_models import SIDE as TINY_SIDE
from tests.tiny_models import save_preprocessor, save_tiny


@pytest.fixture
def catalogue(shards: Path) -> Catalogue:
    return read_catalogue(str(shards))


def of_classes(catalogue: Catalogue, *sizes: int) -> Catalogue:
    """A part of ``catalogue`` with as many images of different classes as ``sizes`` say."""
    labels = catalogue.labels
    rows = [np.flatnonzero(labels == label)[:n] for label, n in enumerate(sizes)]
    return catalogue.subset(np.concatenate(rows))


def test_a_set_that_every_order_of_solves_is_refused_by_its_name(tmp_path: Path) -> None:
    items = [Item(f"{n}.png", 0, "one", "test", content=(0, n)) for n in range(3)]
    write_shards(items, encode_picture, str(tmp_path), shard_bytes=10**6, on_refused=refuse)
    config = override(Config(), {"evaluation.sets": [f"alike={tmp_path}"]})
    with pytest.raises(ValueError, match="evaluation.sets alike: .* 3 images of 1 class"):
        check_sets(config)


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


def hub_network(folder: Path, kind: str) -> DescriptorNet:
    save_tiny(kind, folder)
    return DescriptorNet(ModelConfig(backbone=f"hub:{folder}"))


@pytest.mark.filterwarnings("ignore")
def test_a_side_that_patches_do_not_fill_is_refused_before_the_training(tmp_path: Path) -> None:
    network = hub_network(tmp_path, "dinov2")
    with pytest.raises(ValueError, match="data.image_size 30 is no multiple of 8, .* 24 and 32"):
        check_images(network, 30, "crop")


@pytest.mark.filterwarnings("ignore")
def test_a_side_that_the_models_own_code_fails_on_is_refused(tmp_path: Path) -> None:
    network = hub_network(tmp_path, "vit")
    network.backbone.options = {}  # type: ignore[assignment]
    with pytest.raises(ValueError, match="gives no features of an image of 24 x 24 .*another side"):
        check_images(network, 24, "crop")


@pytest.mark.filterwarnings("ignore")
def test_pixels_that_a_network_was_not_trained_with_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_images(hub_network(tmp_path / "a", "vit"), 24, "crop")
    told = capsys.readouterr().err
    assert "has no preprocessor_config.json, so its pixels are normalised with a mean of" in told
    assert f"was trained at {TINY_SIDE}, and its positions are interpolated" in told
    save_tiny("vit", tmp_path / "b")
    save_preprocessor(tmp_path / "b")
    capsys.readouterr()
    check_images(DescriptorNet(ModelConfig(backbone=f"hub:{tmp_path / 'b'}")), TINY_SIDE, "crop")
    check_images(DescriptorNet(ModelConfig()), 37, "crop")
    assert not capsys.readouterr().err


def test_fewer_images_than_axes_are_refused() -> None:
    config = override(Config(), {"model.init": "pca", "training.batch_size": 64})
    with pytest.raises(ValueError, match="learns model.dim 128 axes .* takes 128, in whole batch"):
        check_start(config, 2)
    check_start(config, 3)
    with pytest.raises(ValueError, match="takes 64, .* at most model.init_images 100; use a small"):
        check_start(override(config, {"model.init_images": 100}), 3)
    check_start(override(config, {"model.init": "random"}), 1)


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


def test_options_without_effect_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_no_effect(Config())
    assert capsys.readouterr().err == ""
    changes = {"lora.targets": ["*.query"], "training.warmup_steps": 3, "training.final_share": 0.1}
    changes |= {"training.freeze": ["backbone"], "training.unfreeze_at": 240}
    warn_of_no_effect(override(Config(), changes))
    assert capsys.readouterr().err.splitlines() == [
        "warning: lora.targets has no effect without lora.rank",
        "warning: training.warmup_steps has no effect with the schedule one_cycle, which rises by "
        "warmup_share",
        "warning: training.final_share has no effect with the schedule one_cycle",
        "warning: training.unfreeze_at has no effect in 240 steps",
    ]


@pytest.mark.filterwarnings("ignore")
def test_a_backbone_that_takes_squares_alone_is_refused_for_whole_images(tmp_path: Path) -> None:
    save_tiny("vit", tmp_path)
    save_preprocessor(tmp_path)
    network = DescriptorNet(ModelConfig(backbone=f"hub:{tmp_path}", dim=4))
    check_images(network, 4 * TINY_SIDE, "longest")

    def fail(**_: object) -> None:
        raise RuntimeError("no such window")

    network.backbone.net.forward = fail
    with pytest.raises(ValueError, match=r"takes no image of .* \(no such window\); leave it at"):
        check_images(network, 4 * TINY_SIDE, "longest")
