"""`apdist prepare check`: what changed since shards were catalogued."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.reader import ImageReader
from tests.foreign import samples, write_tar
from tests.pictures import write_folder, write_small_set
from tests.pipelines.test_cli import run
from tests.s3_server import s3_server


def test_what_differs_is_brought_back_or_prepared_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    write_folder(Path("images"), dict.fromkeys("abcd", 3))
    write_tar(tmp_path / "others" / "a.tar", samples(4))
    again = ["prepare", "folder", "images", "--out", "ours", "--split-by-class", "0.5"]
    index = ["prepare", "index", "others", "--split", "test"]
    for command, folder in ((again, Path("ours")), (index, Path("others"))):
        assert run(command, capsys)[0] == 0
        table = read_catalogue(str(folder)).table
        shard, offset = (table[name][0].as_py() for name in ("shard", "offset"))
        data = bytearray((folder / shard).read_bytes())
        data[offset + 9] ^= 1
        (folder / shard).write_bytes(data)
        code, said, _ = run(["prepare", "check", str(folder), "--deep"], capsys)
        assert code == 1
        assert "bring the shards back, or prepare them again" in said
        assert "with --overwrite" in said
    shutil.rmtree("ours")
    run(again, capsys)
    run([*index, "--overwrite", "--on-corrupt", "skip"], capsys)
    for name in ("ours", "others"):
        assert run(["prepare", "check", name, "--deep"], capsys)[0] == 0


@pytest.mark.s3
@pytest.mark.timeout(180)
def test_shards_in_object_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with s3_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        write_small_set("s3://apdist/ours", shard_bytes=20_000)
        assert run(["prepare", "check", "s3://apdist/ours", "--deep"], capsys)[0] == 0
        for number in range(2):
            write_tar(tmp_path / f"{number}.tar", samples(3))
            where = f"foreign/{number}.tar"
            server.client().upload_file(str(tmp_path / f"{number}.tar"), server.bucket, where)
        code, said, err = run(["prepare", "index", "s3://apdist/foreign"], capsys)
        assert code == 0, err
        assert "18 images in 2 shards" in said
        catalogue = read_catalogue("s3://apdist/foreign")
        reader = ImageReader(catalogue)
        for row in range(len(catalogue)):
            reader.request(np.array([row])).check(0, reader.read_one(row))
        changed = bytearray((tmp_path / "1.tar").read_bytes())
        changed[catalogue.table["offset"][10].as_py() + 5] ^= 1
        server.client().put_object(Bucket=server.bucket, Key="foreign/1.tar", Body=bytes(changed))
        code, said, _ = run(["prepare", "check", "s3://apdist/foreign"], capsys)
        assert (code, "replaced: its ETag was" in said) == (1, True)
        code, said, _ = run(["prepare", "check", "s3://apdist/foreign", "--deep"], capsys)
        assert (code, "2 differences in 1 of 2 shards" in said) == (1, True)
