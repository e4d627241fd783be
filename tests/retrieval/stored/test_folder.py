"""The folder of an index: one writer's own, old or new for whoever reads, clean after a refusal."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from apdist.data import storage
from apdist.data.storage.registry import STORES
from apdist.retrieval.index import build_index, load_index, save_index
from apdist.retrieval.search_index import SearchIndex
from apdist.retrieval.stored import folder as folders
from apdist.retrieval.stored.changing import add_to_index, remove_from_index, update_index
from apdist.retrieval.stored.folder import claimed, read_settings
from tests.memory_store import MemoryStore
from tests.places import ROOT
from tests.retrieval.indexes import clustered, entries, small_index
from tests.s3_server import S3Server


def numbered(number: int, kind: str = "exact") -> SearchIndex:
    """An index whose every file tells which one it is."""
    count = 40 + number
    table = entries(count).append_column("number", pa.array([number] * count))
    return build_index(clustered(2000, 8)[number : number + count], table, kind=kind, model_id="m")


def number_of(index: SearchIndex) -> int:
    """Which one it is; refused where it is a mixture."""
    [number] = index.entries["number"].unique().to_pylist()
    whole = numbered(number, index.settings["kind"])
    assert index.settings == whole.settings
    assert index.entries.equals(whole.entries)
    assert index.descriptors.equal(whole.descriptors)
    _, rows = index.search(whole.descriptors, 1)
    assert rows[:, 0].tolist() == list(range(40 + number))
    return int(number)


def files_of(root: str) -> set[str]:
    """All that lies there, but for empty folders."""
    found = set(storage.list_files(root))
    for name in storage.list_folders(root):
        found |= {f"{name}/{file}" for file in storage.list_files(storage.join(root, name))}
    return found


def test_an_index_fills_a_link_and_the_current_folder_in_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "index").symlink_to("disk")
    save_index(small_index(), tmp_path / "index")
    save_index(small_index(), tmp_path / "index", overwrite=True)
    assert (tmp_path / "index").is_symlink()
    assert len(load_index(tmp_path / "disk", model_id="model A")) == 40
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_index(small_index(), ".")
    assert len(load_index(".", model_id="model A")) == 40


def test_a_second_writer_is_refused_while_the_first_one_works(tmp_path: Path) -> None:
    save_index(small_index(), tmp_path / "index")
    with claimed(tmp_path / "index", "change"):
        for write in (
            lambda: save_index(small_index(), tmp_path / "index", overwrite=True),
            lambda: remove_from_index(tmp_path / "index", ["bild 3 ü"]),
        ):
            with pytest.raises(ValueError, match="is being written by another process"):
                write()
        assert len(load_index(tmp_path / "index", model_id=None)) == 40


def test_who_reads_a_half_written_index_is_told_so(tmp_path: Path) -> None:
    with (
        claimed(tmp_path / "index"),
        pytest.raises(ValueError, match=r"index\.json does not exist.*still being written"),
    ):
        load_index(tmp_path / "index", model_id=None)


def test_an_index_is_replaced_where_that_is_asked_for_only(tmp_path: Path) -> None:
    for path in ("index", "broken"):
        save_index(numbered(1), tmp_path / path)
    (tmp_path / "broken" / "index.json").write_text("{")
    (tmp_path / "index" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds an index already; replace it with --overwrite"):
        save_index(numbered(2), tmp_path / "index")
    for path in ("index", "broken", "new"):
        save_index(numbered(2), tmp_path / path, overwrite=True)
        assert number_of(load_index(tmp_path / path, model_id="m")) == 2
        assert len(list((tmp_path / path).glob("generation-*"))) == 1
    assert (tmp_path / "index" / "notes.txt").read_text() == "mine"


def test_a_folder_that_nobody_can_make_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(ValueError, match=r"cannot be written \(not a directory\); give another"),
        claimed(tmp_path / "file" / "index"),
    ):
        pytest.fail("the work began")


def test_work_that_fails_leaves_folders_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    save_index(numbered(1), tmp_path / "there")
    before = files_of(str(tmp_path / "there"))
    index = small_index()
    index.settings["model_id"] = object()  # no JSON: the last of the files cannot be written
    for folder in ("old", "new/er", "there"):
        with pytest.raises(TypeError):
            save_index(index, tmp_path / folder, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "there"]
    assert not os.listdir(tmp_path / "old")
    assert files_of(str(tmp_path / "there")) == before
    assert number_of(load_index(tmp_path / "there", model_id="m")) == 1


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(STORES, "mem", MemoryStore())
    MemoryStore().files.store.clear()  # all of them share it
    return "mem://bucket/a/index"


@pytest.fixture
def local(tmp_path: Path) -> str:
    return str(tmp_path / "index")


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return "s3://apdist/life/index"


@pytest.mark.parametrize("name", ["kind", "dim", "count", "model_id", "generation", "files"])
def test_an_index_json_that_lacks_something_is_refused(tmp_path: Path, name: str) -> None:
    save_index(numbered(1), tmp_path)
    path = tmp_path / "index.json"
    settings = json.loads(path.read_text())
    del settings[name]
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=f"index.json is damaged: it lacks {name}; build the"):
        read_settings(str(tmp_path))


def test_what_is_to_be_changed_has_to_be_an_index(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="is no index, or is still being written"),
        claimed(tmp_path, "change"),
    ):
        pytest.fail("the work began")


def test_the_next_writer_removes_an_index_json_that_was_not_finished(tmp_path: Path) -> None:
    for name in (".index.json.a1.tmp", "notes.tmp"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="exists and is not empty"):
        save_index(numbered(1), tmp_path)
    (tmp_path / "notes.tmp").unlink()
    save_index(numbered(1), tmp_path)
    assert not list(tmp_path.glob(".index.json*"))


def test_a_store_without_paths_leaves_no_file_on_this_machine(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    save_index(numbered(1), memory)
    assert number_of(load_index(memory, model_id="m")) == 1
    assert not list(tmp_path.iterdir())


def test_work_that_fails_in_a_store_leaves_none_of_its_files(
    memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(MemoryStore):
        def write(self, uri: str, data: bytes) -> None:
            if uri.endswith("index.json"):
                raise storage.StorageError("no room")
            super().write(uri, data)

    save_index(numbered(1), memory)
    before = files_of(memory)
    monkeypatch.setitem(STORES, "mem", Full())
    with pytest.raises(storage.StorageError, match="no room"):
        save_index(numbered(2), memory, overwrite=True)
    assert files_of(memory) == before
    assert number_of(load_index(memory, model_id="m")) == 1


@pytest.mark.parametrize("store", ["local", "memory", pytest.param("bucket", marks=pytest.mark.s3)])
def test_an_index_lives_in_every_store(store: str, request: pytest.FixtureRequest) -> None:
    root = request.getfixturevalue(store)
    save_index(numbered(1), root)
    assert number_of(load_index(root, model_id="m")) == 1
    save_index(numbered(2), root, overwrite=True)
    assert number_of(load_index(root, model_id="m")) == 2
    with pytest.raises(ValueError, match="holds an index already"):
        save_index(numbered(3), root)
    new = entries(60).slice(50)
    assert add_to_index(root, [(clustered(60, 8)[50:], new)], model_id="m").num_added == 10
    assert update_index(root, [(clustered(60, 8)[:5], new.slice(0, 5))], model_id="m").num_replaced
    assert remove_from_index(root, ["bild 50 ü"]).num_removed == 1
    assert len(load_index(root, model_id="m")) == 51
    generation = read_settings(root)["generation"]
    assert files_of(root) == {
        "index.json",
        f"{generation}/descriptors.safetensors",
        f"{generation}/entries.parquet",
    }


def test_a_second_writer_in_object_storage_is_refused_as_well(memory: str) -> None:
    save_index(numbered(1), memory)
    with (
        claimed(memory, "change"),
        pytest.raises(ValueError, match=r"is being written by process \d+ on"),
    ):
        save_index(numbered(2), memory, overwrite=True)
    save_index(numbered(2), memory, overwrite=True)


def test_a_reader_sees_old_or_new_and_goes_on_with_what_it_has(tmp_path: Path) -> None:
    last = 25
    save_index(numbered(0), tmp_path / "index")
    held = load_index(tmp_path / "index", model_id="m")
    seen: list[int] = []
    failed: list[BaseException] = []

    def read() -> None:
        try:
            while not seen or seen[-1] < last:
                seen.append(number_of(load_index(tmp_path / "index", model_id="m")))
        except BaseException as error:
            failed.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, last + 1):
        save_index(numbered(number), tmp_path / "index", overwrite=True)
    reader.join(60)
    assert not failed
    assert seen == sorted(seen)
    assert seen[-1] == last
    assert number_of(held) == 0  # its files are gone, and it still reads them


@pytest.mark.parametrize("store", ["local", "memory"])
def test_a_reader_that_an_index_is_replaced_under_begins_again(
    store: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = request.getfixturevalue(store)
    save_index(numbered(1), root)
    opened = folders.address

    def replacing(*place: str) -> str:
        monkeypatch.setattr("apdist.retrieval.stored.reading.address", opened)
        save_index(numbered(2), root, overwrite=True)
        return opened(*place)

    monkeypatch.setattr("apdist.retrieval.stored.reading.address", replacing)
    assert number_of(load_index(root, model_id="m")) == 2


KILLED = """
import os, signal, sys
import torch
from tests.retrieval.stored.test_folder import load_index, number_of, numbered, save_index

root = sys.argv[1]
torch.set_num_threads(1)  # a child has none but the thread that it begins with
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "shutil.rmtree"}
left, old, new = [0], numbered(1), numbered(2)

def audit(event, arguments):
    if left[0] and event in CHANGES and isinstance(arguments[0], (str, bytes, os.PathLike)):
        if root in os.fsdecode(arguments[0]):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(audit)
for number in range(1, 100):
    pid = os.fork()
    if not pid:
        left[0] = number
        save_index(new, root, overwrite=True)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    print(number, status, number_of(load_index(root, model_id="m")), flush=True)
    save_index(old, root, overwrite=True)
    if not status:
        break
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_step_leaves_the_old_index_or_the_new_one(tmp_path: Path) -> None:
    save_index(numbered(1), tmp_path / "index")
    run = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "index")],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=ROOT,
    )
    lines = [tuple(map(int, line.split())) for line in run.stdout.splitlines()]
    assert len(lines) > 8, run.stderr
    steps, statuses, seen = zip(*lines, strict=True)
    assert list(steps) == list(range(1, len(lines) + 1))
    assert statuses == (*[9] * (len(lines) - 1), 0)
    assert list(seen) == sorted(seen)  # the old one up to some step, the new one from then on
    assert set(seen) == {1, 2}
    assert len(list((tmp_path / "index").iterdir())) == 2  # nothing is left of those killed


def test_a_disk_that_fills_while_an_index_is_written_is_named(tmp_path: Path) -> None:
    told = f"{tmp_path}/index cannot be written .No space left on device.; make room there"
    with pytest.raises(storage.StorageError, match=told), claimed(tmp_path / "index"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
