from pathlib import Path

import pytest
import torch

from apdist.training.run_folder.kept_weights import (
    FOLDER,
    packed,
    prune_weights,
    read_weights,
    write_weights,
)


def test_weights_come_back_under_the_name_that_their_content_has(tmp_path: Path) -> None:
    state = {"a": torch.arange(3.0)}
    name, content = packed(state)
    write_weights(str(tmp_path), name, content)
    write_weights(str(tmp_path), name, content)
    assert torch.equal(read_weights(str(tmp_path), name)["a"], state["a"])
    other, other_content = packed({"a": torch.ones(3)})
    assert other != name
    write_weights(str(tmp_path), other, other_content)
    prune_weights(str(tmp_path), {other})
    with pytest.raises(ValueError, match="is missing: the weights that this run has chosen"):
        read_weights(str(tmp_path), name)
    path = tmp_path / FOLDER / f"{other}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="is damaged"):
        read_weights(str(tmp_path), other)
