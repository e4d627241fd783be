"""Whitening learned batch by batch is the one of all descriptors at once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from apdist.config import ModelConfig
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.images import Fit
from apdist.model.descriptor import DescriptorNet
from apdist.model.whitening import Whitening, learn_pca_whitening, learn_supervised_whitening
from apdist.retrieval.describe import describe_split, described_batches
from apdist.retrieval.learning import learn_whitening
from tests.pictures import write_small_set

FIT = Fit(side=24)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[DescriptorNet, Catalogue, Tensor]:
    """A network, images of 12 classes and their descriptors (72, 6)."""
    torch.manual_seed(0)
    network = DescriptorNet(ModelConfig(dim=6)).eval()
    catalogue = write_small_set(tmp_path_factory.mktemp("small"))
    return network, catalogue, describe_split(network, catalogue, fit=FIT, progress=lambda _: None)


def in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(*arguments: object, **options: object) -> object:
        return described_batches(*arguments, **options, batch_size=7)  # type: ignore[arg-type]

    monkeypatch.setattr("apdist.retrieval.learning.described_batches", batches)
    monkeypatch.setattr("apdist.retrieval.learning._PAIRS_AT_ONCE", 5)


def assert_alike(found: Whitening, expected: Whitening) -> None:
    torch.testing.assert_close(found.mean, expected.mean, atol=1e-7, rtol=0)
    torch.testing.assert_close(found.projection, expected.projection, atol=1e-5, rtol=1e-4)


def test_pca_is_that_of_all_descriptors(
    small: tuple[DescriptorNet, Catalogue, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, catalogue, descriptors = small
    in_small_batches(monkeypatch)
    done: list[int] = []
    found = learn_whitening(
        network, catalogue, dim=6, fit=FIT, num_components=3, power=0.25, progress=done.append
    )
    assert_alike(found, learn_pca_whitening(descriptors, num_components=3, power=0.25))
    assert done[-1] == len(catalogue) > done[0] == 7


def test_pairs_of_labels_are_all_of_a_class_whatever_batches_it_lies_in(
    small: tuple[DescriptorNet, Catalogue, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, catalogue, descriptors = small
    in_small_batches(monkeypatch)
    labels = catalogue.labels
    pairs = [
        (a, b) for a in range(len(labels)) for b in np.flatnonzero(labels == labels[a]) if a != b
    ]
    found = learn_whitening(network, catalogue, dim=6, fit=FIT, pairs="labels")
    assert_alike(found, learn_supervised_whitening(descriptors, np.array(pairs)))


def test_given_pairs_are_learned_from(
    small: tuple[DescriptorNet, Catalogue, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, catalogue, descriptors = small
    in_small_batches(monkeypatch)
    random = np.random.default_rng(0)
    pairs = random.integers(0, 60, (40, 2))
    found = learn_whitening(network, catalogue, dim=6, fit=FIT, pairs=pairs, num_components=4)
    assert_alike(found, learn_supervised_whitening(descriptors, pairs, num_components=4))


def test_classes_of_one_image_are_no_pairs(
    small: tuple[DescriptorNet, Catalogue, Tensor], tmp_path: Path
) -> None:
    network, _, _ = small
    alone = write_small_set(tmp_path, num_classes=9, images_per_class=1)
    with pytest.raises(
        ValueError, match="none of the 9 classes has two images, so there are no pa"
    ):
        learn_whitening(network, alone, dim=6, fit=FIT, pairs="labels")
