"""Paths from the root, and the side of the backbone."""

from pathlib import Path

import pytest

from apdist.config import Config, override
from apdist_verbs.start.completing import with_absolute_paths, with_own_side
from tests.tiny_models import save_preprocessor, save_tiny


@pytest.mark.filterwarnings("ignore")
def test_a_side_of_0_is_that_of_the_backbone(small_config: Config, tmp_path: Path) -> None:
    save_tiny("vit", tmp_path)
    save_preprocessor(tmp_path, crop_size=24)
    changes = {"data.image_size": 0, "model.backbone": f"hub:{tmp_path}"}
    assert with_own_side(override(small_config, changes)).data.image_size == 24
    assert with_own_side(small_config) == small_config
    with pytest.raises(ValueError, match="small is trained from nothing; give one"):
        with_own_side(override(small_config, {"data.image_size": 0}))


def test_a_folder_with_a_backbone_is_named_from_the_root(
    small_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for given, expected in (("mine", f"{tmp_path}/mine"), ("a/b", "a/b"), ("./no", "./no")):
        config = override(small_config, {"model.backbone": f"hub:{given}"})
        assert with_absolute_paths(config).model.backbone == f"hub:{expected}"
