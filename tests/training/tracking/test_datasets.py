"""What a run learns from and is measured on."""

import pytest

from apdist.config import Config, override
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.catalogue.selection import training_images
from apdist.training.tracking.datasets import datasets_of


def test_each_use_has_its_images_classes_and_fingerprint(small_config: Config) -> None:
    catalogue = read_catalogue(small_config.data.shards)
    config = override(small_config, {"data.eval_split": "test", "data.holdout_share": 0.25})
    found = {entry["context"]: entry for entry in datasets_of(config, catalogue)}
    assert {context: entry["name"] for context, entry in found.items()} == {
        "training": "small set0 train",
        "validation": "small set0 holdout",
        "evaluation": "small set0 test",
    }
    trained = training_images(catalogue, config.data, config.training.seed)
    assert found["training"]["fingerprint"] == trained.fingerprint()
    assert found["training"]["num_images"] == len(trained)
    counts = {context: entry["num_classes"] for context, entry in found.items()}
    assert counts == {"training": 6, "validation": 2, "evaluation": 4}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("s3://bucket/birds/shards", "birds/shards train"),
        ("https://u:geheim@host/sets/birds/?sig=geheim", "birds train"),
        ("/", " train"),
    ],
)
def test_a_set_is_called_as_its_folder_and_has_no_secrets(
    small_config: Config, place: str, name: str
) -> None:
    catalogue = read_catalogue(small_config.data.shards)
    config = override(small_config, {"data.shards": place, "data.eval_split": ""})
    found = datasets_of(config, catalogue)
    assert found[0]["name"] == name
    assert "geheim" not in str(found)
