"""What `apdist extract` refuses to mix."""

import json
from pathlib import Path

import pytest

from apdist.config import RayConfig
from apdist_verbs.describe_options import CONTENTS
from apdist_verbs.extract import Options, refuse_others

MINE = {"model": "a1", "data": "d1"}


def test_descriptors_of_another_model_or_of_other_images_are_refused_by_name(
    tmp_path: Path,
) -> None:
    refuse_others(str(tmp_path), MINE)
    (tmp_path / CONTENTS).write_text(json.dumps(MINE))
    refuse_others(str(tmp_path), MINE)
    with pytest.raises(ValueError, match="holds descriptors of model a1, not of b2; choose"):
        refuse_others(str(tmp_path), MINE | {"model": "b2"})
    with pytest.raises(ValueError, match="holds descriptors of other images"):
        refuse_others(str(tmp_path), MINE | {"data": "d2"})


def test_tables_of_somebody_else_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="files that `apdist extract` did not write"):
        refuse_others(str(tmp_path), MINE)


@pytest.mark.parametrize("text", ["", "[]", "{}"])
def test_a_damaged_note_of_the_contents_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / CONTENTS).write_text(text)
    with pytest.raises(ValueError, match="is damaged; choose another --out"):
        refuse_others(str(tmp_path), MINE)


def test_its_actors_are_those_that_the_options_of_ray_say() -> None:
    asked = Options(out="t", ray_address="auto", ray_num_workers=3, ray_use_gpu="no")
    assert asked.ray == RayConfig(address="auto", num_workers=3, use_gpu="no")
    assert Options(out="t", ray_autoscaling=True).ray == RayConfig(autoscaling=True)
    with pytest.raises(ValueError, match="ray.num_workers must be at least 1"):
        Options(out="t", ray_num_workers=0)
