"""`apdist prepare stats`, on shards that were catalogued and checked."""

import re
from pathlib import Path

import pytest

from tests.foreign import samples, write_tar
from tests.pipelines.test_cli import refused, run


def test_foreign_shards_are_catalogued_checked_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for number in range(2):
        write_tar(tmp_path / f"part-{number}.tar", samples(4, 5))
    command = ["prepare", "index", ".", "--names", "txt"]
    code, said, warned = run(command, capsys)
    assert code == 0
    assert "40 images in 2 shards" in said
    assert "train: 40 images of 4 classes" in said
    assert "20 keys in several shards" in warned
    assert "add --overwrite" in refused(command, capsys)
    code, said, _ = run([*command, "--overwrite"], capsys)
    assert (code, "2 shards as an earlier run has read them" in said) == (0, True)

    assert run(["prepare", "check", ".", "--deep"], capsys)[0] == 0
    code, said, _ = run(["prepare", "stats", ".", "--batch-size", "8"], capsys)
    assert code == 0
    assert re.search(r"train\D+40\D+4\D+0\D+10\D+10\D+10.0\D+10\D+2 ", said)
    assert re.search(r"8-15  #+ 4", said)
    assert re.search(r"an epoch is \d batches of 8 in groups of up to 4: \d+ of 40 images", said)
    code, said, _ = run(["prepare", "stats", "."], capsys)
    assert code == 0
    assert "no epoch: training.batch_size 256 cannot be filled" in said  # of the preset `folder`
    _, said, _ = run(["prepare", "stats", ".", "--preset", "glyphs"], capsys)
    assert "no epoch: training.batch_size 512 cannot be filled" in said

    write_tar(tmp_path / "part-0.tar", samples(4, 5)[:-4])
    (tmp_path / "part-1.tar").rename(tmp_path / "part-2.tar")
    code, said, warned = run(["prepare", "check", "."], capsys)
    assert code == 1
    assert "size changed from" in said
    assert "missing, with 20 images" in said
    assert "2 differences in 2 of 2 shards" in said
    assert "1 shard not in the catalogue, the first part-2.tar" in warned
