from pathlib import Path

import pytest
import torch
from torch import nn

from apdist.training.checkpoint import (
    CheckpointMeta,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    read_meta,
    save_checkpoint,
    whole_state,
)

ORIGIN = {"config_hash": "abc", "data_hash": "def"}


def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.rand(4, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def save(run: Path, step: int) -> str:
    state = whole_state(*trained())
    return save_checkpoint(str(run), state, CheckpointMeta(step=step, **ORIGIN))


def test_training_goes_on_exactly_where_it_was(tmp_path: Path) -> None:
    model, optimizer = trained()
    uri = save_checkpoint(str(tmp_path), whole_state(model, optimizer), CheckpointMeta(7, **ORIGIN))
    other, other_optimizer = trained()
    assert load_checkpoint(uri, other, other_optimizer, **ORIGIN) == 7
    for m, o in ((model, optimizer), (other, other_optimizer)):
        o.zero_grad()
        m(torch.ones(4, 3)).pow(2).sum().backward()
        o.step()
    assert torch.equal(model.weight, other.weight)  # type: ignore[arg-type]


def test_a_checkpoint_cut_off_while_it_was_written_does_not_count(tmp_path: Path) -> None:
    first = save(tmp_path, 5)
    second = save(tmp_path, 10)
    assert latest_checkpoint(str(tmp_path)) == second
    Path(second, "meta.json").unlink()
    assert latest_checkpoint(str(tmp_path)) == first


def test_a_run_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert latest_checkpoint(str(tmp_path)) == ""


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        save(tmp_path, step)
    prune_checkpoints(str(tmp_path), keep=2)
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-000006",
        "step-000008",
    ]


def test_other_options_are_refused(tmp_path: Path) -> None:
    uri = save(tmp_path, 5)
    with pytest.raises(ValueError, match="other data, model, loss or training options"):
        load_checkpoint(uri, *trained(), **ORIGIN | {"config_hash": "another"})
    with pytest.raises(ValueError, match="training on other images"):
        load_checkpoint(uri, *trained(), **ORIGIN | {"data_hash": "another"})


@pytest.mark.parametrize("name", ["state.pt", "meta.json"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    uri = save(tmp_path, 5)
    path = Path(uri, name)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="step-000005 is damaged"):
        load_checkpoint(uri, *trained(), **ORIGIN)


def test_the_meta_data_comes_back(tmp_path: Path) -> None:
    assert read_meta(save(tmp_path, 5)) == CheckpointMeta(step=5, **ORIGIN)
