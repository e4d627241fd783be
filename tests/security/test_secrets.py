"""Secrets that are planted in every address and the environment are in nothing that is left."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from apdist_verbs.__main__ import main
from tests.pictures import encoded, picture
from tests.range_server import WebFile, range_server

CANARY = "c4nary"
"""In every secret; each has more, which tells them apart."""
SIGNED = f"sv=2026&sig={CANARY}Sig%2Fnature&X-Amz-Security-Token={CANARY}Token"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": f"{CANARY}Key",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}SecretKey",
    "AWS_SESSION_TOKEN": f"{CANARY}SessionToken",
    "MLFLOW_TRACKING_TOKEN": f"{CANARY}TrackingToken",
    "MLFLOW_TRACKING_PASSWORD": f"{CANARY}TrackingPassword",
    "HTTPS_PROXY": f"http://me:{CANARY}Proxy@127.0.0.1:9",
    "HTTP_PROXY": f"http://me:{CANARY}Proxy@127.0.0.1:9",
    "NO_PROXY": "127.0.0.1",
    "RAY_AUTH_TOKEN": f"{CANARY}RayToken",
}
FEW = ["--training.batch-size", "32", "--training.chunk-size", "16", "--training.steps", "2"]
FEW += ["--training.schedule", "constant"]
SMALL = ["--data.image-size", "24", "--model.dim", "8", "--run.name", "one"]
OFTEN = ["--checkpoint.every-steps", "1", "--evaluation.every-steps", "1"]


@dataclass
class Place:
    """Shards behind a signature and a password, in a folder with nothing else in it."""

    shards: str
    folder: Path

    def train(self, *options: str) -> list[str]:
        """The words of a training on them."""
        sets = ["--evaluation.sets", f"beside={self.shards}"]
        return [
            "train",
            "glyphs",
            "--data.shards",
            self.shards,
            *FEW,
            *SMALL,
            *OFTEN,
            *sets,
            *options,
        ]

    def leaks(self) -> list[str]:
        """Files with a secret in them, and what stands around it."""
        found = []
        for path in sorted(self.folder.rglob("*")):
            data = path.read_bytes() if path.is_file() else b""
            if (at := data.find(CANARY.encode())) >= 0 or CANARY in path.name:
                found.append(f"{path}: ...{data[max(0, at - 120) : at + 40]!r}")
        return found


@pytest.fixture
def web(shards: Path) -> Iterator[WebFile]:
    with range_server(b"") as web:
        web.others = {f"/set/{path.name}": path.read_bytes() for path in shards.iterdir()}
        yield web


@pytest.fixture
def place(web: WebFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.lower(), value) if "PROXY" in name else None
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("apdist_verbs.__main__.UNANSWERED_S", 0.01)
    monkeypatch.chdir(tmp_path)
    address = web.address.replace("//", f"//me:{CANARY}Password@")
    return Place(f"{address}/set?{SIGNED}", tmp_path)


def test_no_secret_is_told_or_kept_and_a_resume_asks_for_it(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(code: int, *words: str) -> str:
        assert main(list(words)) == code, capsys.readouterr()
        told = "".join(capsys.readouterr())
        assert CANARY not in told
        return told

    few = ["--ray.num-workers", "0", "--tracking.no-enabled"]
    said(0, *place.train(*few, "--data.loader-processes", "0"))
    told = said(2, "train", "--resume", "runs/one", "--training.steps", "3")
    assert "data.shards http://...@127.0.0.1" in told
    assert told.endswith("give the whole address again: --data.shards ADDRESS\n")
    again = place.shards.replace("Sig%2F", "NewSig%2F")  # signed anew, and the same shards
    given = ["--data.shards", again, "--evaluation.sets", f"beside={again}"]
    assert "has done all its 2 steps" in said(0, "train", "--resume", "runs/one", *given)
    said(0, "train", "--resume", "runs/one", *given, "--training.steps", "3")
    assert Path("runs/one/metrics.jsonl").read_text().count('"kind": "step"') == 3
    assert "give the whole address again" in said(2, "evaluate")
    said(0, "report", "--shards", place.shards, "--queries", "1")
    said(0, "index", "--kind", "exact", "--shards", place.shards)
    Path("query.png").write_bytes(encoded(picture(8, 2)))
    assert "0.png" in said(0, "search", "query.png", "--k", "3", "--json", "found.json")
    gone = place.shards.replace("/set?", "/gone.png?")
    assert "no such file" in said(2, "search", gone)
    assert "proxy failed" in said(2, "search", "https://behind-a-proxy.invalid/a.png?sig=c4nary")
    named = ["--shards", "train-000000.tar", "--label", "key:(.)", "--out", "own"]
    assert "beside them" in said(2, "prepare", "index", place.shards, *named)
    said(2, *place.train("--tracking.uri", f"http://u:{CANARY}@h"))
    said(2, *place.train("--tracking.uri", f"postgresql://u@h/db?password={CANARY}"))
    said(2, *place.train("--ray.address", f"u:{CANARY}@h:1"))
    said(2, "extract", "--out", f"https://h/x?sig={CANARY}")
    said(2, "submit", "--ray.address", f"http://u:{CANARY}@127.0.0.1:9", "--", "runs")
    assert place.leaks() == []


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_ray_tune_and_mlflow_keep_no_secret(place: Place) -> None:
    Path("space.toml").write_text('["loss.num_bins"]\ndistribution = "choice"\nvalues = [8, 16]\n')
    trained = place.train("--ray.num-workers", "1")
    swept = ["--space", "space.toml", "--trials", "2", "--run.name", "two"]
    sweep = ["sweep", *place.train("--ray.num-workers", "1", *swept)[1:]]
    for words in (trained, ["track", "runs/one"], sweep):
        told = _run(words)
        assert CANARY not in told
    assert place.leaks() == []


def _run(words: list[str]) -> str:
    """What a command says on both streams; it succeeds."""
    command = [sys.executable, "-m", "apdist_verbs", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
