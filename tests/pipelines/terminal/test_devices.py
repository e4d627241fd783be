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
from apdist.training.cluster.launch import TrainingError
from apdist.training.run_folder.runs import Run, create_run
from apdist_verbs import evaluate, index, report, search
from apdist_verbs.terminal.devices import best_device, say_if_idle
from apdist_verbs.train import train_run
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
    evaluate.evaluate(run)


def use_index(run: Run, folder: Path) -> None:
    index.make_index(run, index.Options(kind="exact", out=str(folder / "index")))


def use_search(run: Run, folder: Path) -> None:
    (folder / "query.png").write_bytes(encoded(picture(8, 2), "PNG"))
    search.search(run, search.Options(query=folder / "query.png"))


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
    say_if_idle(config, "apdist train with --ray.use-gpu")
    return capsys.readouterr().out


def test_an_idle_gpu_is_said_with_the_option_that_uses_it(
    capsys: pytest.CaptureFixture[str], with_gpu: None
) -> None:
    assert said(RayConfig(num_workers=2), capsys).endswith("apdist train with --ray.use-gpu\n")
    without_ray = said(RayConfig(num_workers=0), capsys)
    assert without_ray.endswith("apdist train with --ray.use-gpu --ray.num-workers 1\n")
    assert said(RayConfig(num_workers=2, use_gpu=True), capsys) == ""
    assert said(RayConfig(address="auto"), capsys) == ""


def test_a_machine_without_gpu_is_told_of_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert said(RayConfig(), capsys) == ""


def test_training_says_that_it_leaves_the_gpu_idle(
    small_config: Config, capsys: pytest.CaptureFixture[str], with_gpu: None
) -> None:
    config = override(small_config, {"data.shards": "missing", "run.name": "a"})
    with pytest.raises((TrainingError, ValueError, OSError)):
        train_run(create_run(config, "test"))
    assert "a GPU of this machine stays idle" in capsys.readouterr().out
