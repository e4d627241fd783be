"""What can be refused without a network is refused before one is built, and leaves nothing."""

import re
import shlex
from pathlib import Path

import pytest

from apdist.config import Config, override
from apdist.training.run_folder.lease import held
from apdist.training.run_folder.runs import create_run
from apdist_verbs.start import model_check
from tests.pictures import write_folder, write_small_set
from tests.pipelines.test_cli import refused

SMALL = "--data.shards shards --training.batch-size 16 --tracking.no-enabled"
TRACKED = "--data.shards shards --training.batch-size 16"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with shards, pictures, and things in the way; where no network can be built."""
    monkeypatch.setattr(model_check, "_build", lambda *_: pytest.fail("built a network"))
    monkeypatch.setenv("APDIST_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    here = tmp_path / "here"
    write_small_set(here / "shards")
    write_folder(here / "images", {"a": 2, "b": 2})
    (here / "empty").mkdir()
    (here / "file").write_text("x")
    (here / "a.zip").write_bytes(b"PK")
    (here / "circle").symlink_to("circle")
    taken = {"data.shards": f"{here}/shards", "run.output": f"{here}/runs", "run.name": "taken"}
    create_run(override(Config(), taken), "glyphs")
    (here / "runs" / "taken" / "model.safetensors").write_bytes(b"x")
    (here / "space.toml").write_text('"model.dim" = { distribution = "choice", values = [8] }')
    monkeypatch.chdir(here)
    return here


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"train glyphs {SMALL} --run.name taken", "runs/taken exists; choose another"),
        (f"train glyphs {SMALL} --run.output file/runs", "run.output .* is no folder"),
        (f"train glyphs {SMALL} --model.weights no.pth", "model.weights: .*no.pth does not exist"),
        (
            f"train glyphs {SMALL} --model.weights runs/taken",
            r"model.weights: .*did you mean .*runs/taken/model.safetensors\?",
        ),
        ("evaluate runs/taken", r"argument: runs/taken; did you mean --run runs/taken\?"),
        ("evaluate empty", r"unexpected argument: empty \(`apdist"),
        ("track runs/taken --register ''", "--register is empty; was a variable meant that"),
        ("track runs/taken --register=", "--register is empty"),
        (f"train glyphs {SMALL} --data.cache-dir file", "data.cache_dir file is a file"),
        (f"train glyphs {SMALL} --data.image-size 32768", "data.image_size 32768: .* GiB"),
        (f"train glyphs {SMALL} --data.eval-split val", "split 'val' is not in"),
        (f"train glyphs {SMALL} --evaluation.sets a", "evaluation.sets must be NAME=SHARDS"),
        (
            f"train glyphs {SMALL} --evaluation.sets a=shards b=nowhere",
            "evaluation.sets b: /.*/here/nowhere/index.parquet does not exist",
        ),
        (
            f"train glyphs {SMALL} --evaluation.sets a=shards:tset",
            "evaluation.sets a: split 'tset' is not in .*; it has test",
        ),
        (f"train glyphs {SMALL} --training.batch-size 512", "use --training.batch-size 48 or less"),
        (f"train glyphs {SMALL} --ray.num-workers 999", "the cluster has room for"),
        (f"train glyphs {SMALL} --ray.address 127.0.0.1:1", "no Ray cluster at ray.address"),
        (f"train glyphs {TRACKED} --tracking.uri sqlite:///no/such/x.db", "no/such is no folder"),
        (f"train glyphs {TRACKED} --tracking.uri sqlite:////proc/x.db", "made in /proc"),
        (f"train glyphs {TRACKED} --tracking.uri sqlite:///file", "file is no sqlite database"),
        (
            "train glyphs --tracking.no-enabled --data.shards images",
            "apdist train PRESET .*images`",
        ),
        ("train glyphs shards --tracking.no-enabled", "give it as --data.shards .*/shards"),
        ("train glyphs shards/index.parquet --tracking.no-enabled", "give it as --data.shards"),
        ("train glyphs a.zip --tracking.no-enabled", "a.zip is an archive; unpack it"),
        ("prepare folder a.zip --out x", "a.zip is an archive; unpack it"),
        ("train glyphs circle --tracking.no-enabled", "it is a link that leads nowhere"),
        ("train glyphs circle/x --tracking.no-enabled", "'circle' in it is a link that leads"),
        ("train glyphs nowhere --tracking.no-enabled", "nowhere does not exist"),
        ("train glyphs empty --tracking.no-enabled", "empty holds no class folder with a picture"),
        ("train glyphs file --tracking.no-enabled", "neither a folder of pictures nor a list"),
        ("train glyphs images --tracking.no-enabled --run.name taken", "runs/taken exists"),
        ("train glyphs --tracking.no-enabled --on-corrupt skip", "says how pictures are prepared"),
        ("train --resume runs/taken --fork --ray.num-workers 999", "the cluster has room for"),
        ("train --resume runs/taken --fork --tracking.no-enabled", "has no checkpoint to begin at"),
        (f"sweep glyphs --space space.toml {SMALL} --run.name taken", "runs/taken exists"),
        (f"sweep glyphs --space space.toml {SMALL} --ray.num-workers 999", "has room for"),
    ],
)
def test_no_network_is_built_for_what_is_refused_anyway(
    command: str, message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(place.rglob("*"))
    assert re.search(message, refused(shlex.split(command), capsys))
    assert sorted(place.rglob("*")) == before


def test_a_run_that_is_trained_already_is_refused_before_a_network_is_built(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(str(place / "runs" / "taken"), print):
        said = refused(["train", "--resume", "runs/taken", "--ray.restarts-per-hour", "9"], capsys)
    assert "is being trained by process" in said
