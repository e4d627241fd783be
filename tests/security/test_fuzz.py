"""The fuzzer of benchmarks/ finds what is planted, and nothing in a few inputs of each kind."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

import pytest

from tests.places import ROOT


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("fuzz")


def options(out: Path, inputs: int) -> argparse.Namespace:
    return argparse.Namespace(minutes=1.0, inputs=inputs, seed=0, out=out)


@pytest.mark.parametrize(
    "name", ["catalogue", "tar", "config", "space", "marker", "search", "upload"]
)
def test_a_few_inputs_are_taken_or_refused(fuzz: Any, name: str, tmp_path: Path) -> None:
    target = fuzz.TARGETS[name](tmp_path)
    assert fuzz.fuzzed(name, target, options(tmp_path / "out", inputs=15)) == 0


def test_a_crash_is_found_and_made_small(
    fuzz: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(data: bytes) -> None:
        if b"\xff" in data:
            raise KeyError("planted")
        if not data:
            raise ValueError  # of no words

    target = fuzz.Target([b"valid input " * 20], run)
    assert fuzz.fuzzed("planted", target, options(tmp_path, inputs=400)) == 2
    assert min(len(file.read_bytes()) for file in tmp_path.glob("planted-*")) == 0
    assert b"\xff" in [file.read_bytes() for file in tmp_path.glob("planted-*")]
    assert "400 inputs" in capsys.readouterr().out
