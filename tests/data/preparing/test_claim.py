"""One writer in the folder of a set, on a disk and in object storage."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from apdist.data import storage
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.preparing.claim import CLAIM, claimed, claimed_as_it_is
from apdist.data.preparing.shards import write_shards
from apdist.data.storage.locks import myself
from tests.pictures import encode_picture, items, refuse, write_small_set
from tests.s3_server import S3Server


@pytest.fixture(params=["disk", pytest.param("s3", marks=pytest.mark.s3)])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a set will lie."""
    if request.param == "disk":
        return str(tmp_path / "set")
    server: S3Server = request.getfixturevalue("s3")
    return f"s3://{server.bucket}/{tmp_path.name}/set"


def test_a_second_writer_is_refused_and_the_set_of_the_first_is_whole(out: str) -> None:
    refusals: list[str] = []

    def again(done: int) -> None:
        if done in (1, 40):  # before the first shard lies there, and after
            with pytest.raises(ValueError, match="choose another --out") as error:
                write_small_set(out, num_test=7)
            refusals.append(str(error.value))

    write_shards(
        items(), encode_picture, out, shard_bytes=20_000, on_refused=refuse, progress=again
    )
    assert len(refusals) == 2
    assert all(f"{out} is being written by process" in refusal for refusal in refusals)
    assert read_catalogue(out).splits() == {"test": 24, "train": 48}
    assert CLAIM not in storage.list_files(out)


def kill_in(out: Path | str) -> None:
    """Let a process end while it holds the claim of ``out``."""
    code = (
        "import os, sys; from apdist.data.preparing.claim import claimed\n"
        "with claimed(sys.argv[1]): os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, str(out)], check=True)


def test_the_claim_of_a_killed_writer_says_that_it_was_cut_off(tmp_path: Path) -> None:
    kill_in(tmp_path)
    with pytest.raises(ValueError, match="which was cut off; .* remove the folder"):
        claimed(str(tmp_path)).__enter__()


def test_a_writer_elsewhere_may_live_and_what_is_no_claim_is_passed_over(tmp_path: Path) -> None:
    other = replace(myself(), host="far", machine="far/1/2", pid=1)
    (tmp_path / CLAIM).write_text(json.dumps(asdict(other)))
    with pytest.raises(ValueError, match="written by process 1 on far since .* is no more, remove"):
        claimed(str(tmp_path)).__enter__()
    (tmp_path / CLAIM).write_text("{}")
    with pytest.raises(ValueError, match="by another process a moment ago"):
        claimed(str(tmp_path)).__enter__()


def test_folders_that_were_made_in_vain_are_gone(tmp_path: Path) -> None:
    with pytest.raises(KeyError), claimed(str(tmp_path / "a" / "b")):
        raise KeyError
    assert not list(tmp_path.iterdir())


def test_a_folder_with_content_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match="is not empty"), claimed(str(tmp_path)):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["sub"]


@pytest.mark.parametrize("made", [False, True])
def test_a_signal_beside_the_making_of_the_claim_leaves_none(
    tmp_path: Path, made: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = storage.create

    def interrupted(uri: str, data: bytes) -> bool:
        if made:
            create(uri, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "create", interrupted)
    with pytest.raises(KeyboardInterrupt), claimed(str(tmp_path / "set")):
        pass
    assert list(tmp_path.iterdir()) == []


def test_in_a_filled_folder_a_second_writer_is_refused_and_a_killed_one_succeeded(
    out: str,
) -> None:
    kill_in(out)
    storage.write_bytes(storage.join(out, "a.tar"), b"")
    with claimed_as_it_is(out):
        for again in (claimed, claimed_as_it_is):
            with pytest.raises(ValueError, match="is being written by process"):
                again(out).__enter__()
    assert storage.list_files(out) == ["a.tar"]


def test_in_a_filled_folder_the_claim_of_a_writer_elsewhere_is_what_to_remove(
    tmp_path: Path,
) -> None:
    other = replace(myself(), host="far", machine="far/1/2", pid=1)
    (tmp_path / CLAIM).write_text(json.dumps(asdict(other)))
    with pytest.raises(ValueError, match=rf"process is no more, remove {tmp_path}/{CLAIM} first"):
        claimed_as_it_is(str(tmp_path)).__enter__()
