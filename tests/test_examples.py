"""Examples and the code in the manual for Python: they run as they stand."""

import io
import os
import re
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from apdist.config import ModelConfig
from apdist.data import read_catalogue, storage
from apdist.data.loading.reader import ImageReader
from apdist.loss import AveragePrecisionLoss
from apdist.model.pretrained import build_model, save_model
from apdist.retrieval.describe import describe_split
from apdist.training import StepOptions, global_step
from tests.pictures import write_small_set
from tests.places import ROOT
from tests.s3_server import S3Server

SNIPPETS = [
    (page, code)
    for page in ("python.md", "search.md")
    for code in re.findall(r"```python\n(.+?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
]


def run(*command: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        timeout=100,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_here(example: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What an example prints that needs no process of its own."""
    runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
    return capsys.readouterr().out


def test_the_loss_in_a_loop_learns_to_tell_unseen_classes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = run_here("loss_in_a_loop.py", capsys)
    before, after = (float(text) for text in re.findall(r"mAP (\d\.\d+)", printed))
    assert before < 0.2
    assert after > 0.9


def test_the_step_under_torchrun_starts_as_that_of_one_process() -> None:
    example = runpy.run_path(str(ROOT / "examples" / "step_under_torchrun.py"))
    torch.manual_seed(0)
    network = example["Network"]()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    options = StepOptions(loss=AveragePrecisionLoss(), chunk_size=64)
    expected = []
    for step in range(3):
        images, labels = example["batch"](step)
        optimizer.zero_grad()
        expected.append(global_step(network, images, labels, options, step=step).loss)
        optimizer.step()
    printed = run(
        *("-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"),
        "examples/step_under_torchrun.py",
    )
    losses = [float(text) for text in re.findall(r"loss (\d\.\d+)", printed)]
    assert losses[:3] == pytest.approx(expected, abs=1e-4)
    assert losses[-1] < 0.2 * losses[0]


def test_pictures_of_classes_never_seen_are_found_after_seconds_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["search_your_pictures.py"])
    printed = run_here("search_your_pictures.py", capsys)
    assert "351 pictures of 39 classes" in printed
    precision = re.search(r"unseen classes: mAP (\d\.\d+)", printed)
    assert precision
    assert float(precision[1]) > 0.6
    query = re.search(r"nearest to .*/(.+/.+\.png):", printed)
    assert query
    assert printed.splitlines()[-6] == f"  1.000  {query[1]}"


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_code_in_the_manual_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page, code = SNIPPETS[number]
    exec(compile(code, f"docs/{page}, snippet {number + 1}", "exec"), {})


def test_the_manual_has_code() -> None:
    assert len(SNIPPETS) == 4
    assert len(snippets("of a run")) == 3
    assert len(snippets("of a bucket")) == 1


def snippets(kind: str) -> list[str]:
    text = (ROOT / "docs" / "python.md").read_text()
    return re.findall(rf"```python {kind}\n(.+?)```", text, re.DOTALL)


def described_set(out: str) -> dict[str, Any]:
    """Write an untrained run, small shards and their tables under ``out``; the options of a run."""
    shards = Path(storage.local_path(out) or "local", "shards")
    write_small_set(shards)
    network = build_model(ModelConfig(dim=16)).eval()
    fit = network.fit(24, "crop")
    save_model(network, network.state_dict(), fit, storage.join(out, "runs/mine"))
    catalogue = read_catalogue(str(shards))
    if storage.local_path(out) is None:
        for name in os.listdir(shards):
            storage.write_bytes(
                storage.join(out, f"shards/mine/{name}"), (shards / name).read_bytes()
            )
    found = describe_split(network, catalogue, fit=fit, progress=lambda _: None)
    table = catalogue.table.append_column(
        "descriptor",
        pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1).numpy()), 16),
    )
    written = io.BytesIO()
    pq.write_table(table, written)
    tables = "tables" if storage.local_path(out) else "tables/mine"
    storage.write_bytes(storage.join(out, f"{tables}/a.parquet"), written.getvalue())
    return {"descriptors": found, "catalogue": catalogue}


def test_the_manuals_ways_to_descriptors_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    known = described_set(str(tmp_path))
    catalogue = known["catalogue"]
    (tmp_path / "pictures").mkdir()
    for row in range(3):
        (tmp_path / f"pictures/{row}.png").write_bytes(ImageReader(catalogue).read_one(row))
    of_files, of_split, of_tables = snippets("of a run")
    scope: dict[str, Any] = {}
    exec(of_files, scope)
    torch.testing.assert_close(scope["descriptors"], known["descriptors"][:3])
    exec(of_split, scope)
    tested = [split == "test" for split in catalogue.column("split").to_pylist()]
    torch.testing.assert_close(scope["descriptors"], known["descriptors"][torch.tensor(tested)])
    exec(of_tables, scope)
    np.testing.assert_array_equal(scope["descriptors"], known["descriptors"].numpy()[tested])
    assert len(scope["tested"]) == sum(tested)
    assert scope["tested"]["similarity"].between(-1.0001, 1.0001).all()
    assert "similarity" in capsys.readouterr().out


@pytest.mark.s3
def test_the_manuals_code_for_a_bucket_runs(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bucket = "s3://apdist/of-the-manual"
    known = described_set(bucket)
    (code,) = snippets("of a bucket")
    scope: dict[str, Any] = {}
    exec(code.replace("s3://BUCKET", bucket), scope)
    assert len(scope["table"]) == len(known["descriptors"])
    assert len(scope["descriptors"]) == known["catalogue"].splits()["test"]


@pytest.mark.slow
def test_lancedb_finds_what_exact_search_finds(tmp_path: Path) -> None:
    pytest.importorskip("lancedb", reason="lancedb is not installed: make test-all does")
    random = np.random.default_rng(0).normal(size=(60, 16)).astype(np.float32)
    descriptors = random / np.linalg.norm(random, axis=1, keepdims=True)
    for part, name in ((slice(0, 40), "a"), (slice(40, 60), "b")):
        numbers = range(60)[part]
        columns = {
            "key": [f"k{number}" for number in numbers],
            "source": [f"it's {number}.jpg" for number in numbers],
            "label": list(numbers),
            "label_name": pa.array([f"ü{number % 3}" for number in numbers]).dictionary_encode(),
            "split": pa.array(["test"] * len(numbers)).dictionary_encode(),
            "model": pa.array(["abc"] * len(numbers)).dictionary_encode(),
            "descriptor": pa.FixedSizeListArray.from_arrays(descriptors[part].reshape(-1), 16),
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    printed = run("examples/search_in_lancedb.py", str(tmp_path), "k45")
    exact = descriptors @ descriptors[45]
    order = np.argsort(-exact)[:5]
    lines = [line.split() for line in printed.splitlines()[1:]]
    assert [line[-1] for line in lines] == [f"k{number}" for number in order]
    assert [float(line[0]) for line in lines] == pytest.approx(exact[order], abs=1e-4)
    assert "60 images of model abc; like it's 45.jpg" in printed
