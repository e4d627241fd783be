"""Which verbs use a GPU, and what is said where one stays idle."""

from pathlib import Path

import pytest
import torch

from apdist.config import (
    Config,
    DataConfig,
    ModelConfig,
    RayConfig,
    RunConfig,
    TrackingConfig,
    TrainingConfig,
    override,
)
from apdist.training.cluster import launch
from apdist.training.run_folder.runs import Run, create_run
from apdist_verbs import index, report, search
from apdist_verbs.measure.labelled import score_own_split
from apdist_verbs.start.running import train_run
from apdist_verbs.terminal.devices import best_device, say_if_idle
from tests.pictures import SIDE, encoded, picture


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that seems to have a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with a model, trained in this process, and its index."""
    config = Config(
        data=DataConfig(shards=str(shards), image_size=SIDE, group_size=4, loader_processes=0),
        model=ModelConfig(dim=8),
        training=TrainingConfig(batch_size=16, chunk_size=8, steps=1),
        ray=RayConfig(num_workers=0),
        tracking=TrackingConfig(enabled=False),
        run=RunConfig(output=str(tmp_path_factory.mktemp("runs"))),
    )
    run = create_run(config, "test")
    assert train_run(run) == 0
    index.make_index(run, index.Options(kind="exact"))
    return run


def test_the_gpu_is_the_best_device_where_there_is_one(with_gpu: None) -> None:
    assert best_device() == torch.device("cuda")


def use_evaluate(run: Run, _: Path) -> None:
    score_own_split(run)


def use_index(run: Run, folder: Path) -> None:
    index.make_index(run, index.Options(kind="exact", out=str(folder / "index")))


def use_search(run: Run, folder: Path) -> None:
    query = str(folder / "query.png")
    Path(query).write_bytes(encoded(picture(8, 2), "PNG"))
    search.search(run, [query], search.Options(query=(query,)))


def use_report(run: Run, _: Path) -> None:
    report.make_report(run, report.Options())


@pytest.mark.skipif(torch.cuda.is_available(), reason="fails for want of a GPU")
@pytest.mark.parametrize("use", [use_evaluate, use_index, use_search, use_report])
def test_a_verb_that_describes_uses_the_gpu(
    use: object, trained: Run, tmp_path: Path, with_gpu: None
) -> None:
    from apdist_verbs.described import describe

    describe.cache_clear()
    assert callable(use)
    with pytest.raises((AssertionError, RuntimeError), match="CUDA|NVIDIA"):
        use(trained, tmp_path)


def said(config: RayConfig, capsys: pytest.CaptureFixture[str]) -> str:
    say_if_idle(config, "apdist train with --ray.num-workers")
    return capsys.readouterr().out


def test_idle_gpus_are_said_with_the_option_that_uses_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert said(RayConfig(num_workers=2), capsys) == (
        "1 GPU stays idle while the CPU computes with 2 workers; to compute there: "
        "apdist train with --ray.num-workers 1\n"
    )
    assert said(RayConfig(num_workers=1), capsys) == ""
    assert said(RayConfig(num_workers=0), capsys) == ""
    assert said(RayConfig(num_workers=2, use_gpu="no"), capsys) == ""
    assert said(RayConfig(num_workers=2, address="auto"), capsys) == ""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert said(RayConfig(num_workers=2), capsys) == ""


def test_training_says_that_it_leaves_the_gpu_idle(
    small_config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    changes = {"data.shards": "missing", "run.name": "a", "ray.num_workers": 2}
    monkeypatch.setattr(launch, "run_training", lambda *_: refused())
    with pytest.raises(ValueError, match="far enough"):
        train_run(create_run(override(small_config, changes), "test"))
    assert "1 GPU stays idle" in capsys.readouterr().out


def refused() -> None:
    raise ValueError("far enough")


@pytest.mark.skipif(torch.cuda.is_available(), reason="finds the GPU")
def test_a_gpu_that_is_asked_for_and_missing_is_told(small_config: Config) -> None:
    run = create_run(override(small_config, {"ray.use_gpu": "yes"}), "test")
    with pytest.raises(ValueError, match="torch .* finds no GPU in this process; .*use-gpu no"):
        train_run(run)
