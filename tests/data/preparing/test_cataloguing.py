"""Shards of others: the catalogue says what `tarfile` reads, and nothing is dropped silently."""

import shutil
import string
import tarfile
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.images import Fit
from apdist.data.loading.reader import ImageReader
from apdist.data.loading.sequential import evaluation_batches, shard_names
from apdist.data.preparing import cataloguing
from apdist.data.preparing.cataloguing import Catalogued, catalogue_shards
from apdist.data.preparing.finding import (
    find_shards,
)
from apdist.data.preparing.samples import Rules
from apdist.data.preparing.scanning import ShardError
from tests.data.preparing.catalogued import HAS_TAR, catalogue
from tests.foreign import (
    Files,
    read_with_tarfile,
    sample,
    samples,
    write_tar,
    write_with_gnu_tar,
    write_with_webdataset,
)


def assert_index_is_what_tarfile_reads(root: Path, result: Catalogued, num_images: int) -> None:
    assert len(result.catalogue) == num_images
    reader = ImageReader(result.catalogue)
    for row, cells in enumerate(result.catalogue.table.to_pylist()):
        members = read_with_tarfile(root / cells["shard"])
        data = members[cells["key"] + ".jpg"]
        assert reader.read_one(row) == data
        reader.request(np.array([row])).check(0, data)


WRITERS = {
    "pax": lambda path, files: write_tar(path, files, tarfile.PAX_FORMAT),
    "gnu": lambda path, files: write_tar(path, files, tarfile.GNU_FORMAT),
    "webdataset": write_with_webdataset,
    "GNU tar": lambda path, files: write_with_gnu_tar(path, files, "gnu"),
    "GNU tar pax": lambda path, files: write_with_gnu_tar(path, files, "posix"),
    "GNU tar ustar": lambda path, files: write_with_gnu_tar(path, files, "ustar", prefix=""),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_offsets_are_those_of_any_writer(tmp_path: Path, writer: str) -> None:
    if writer.startswith("GNU") and not HAS_TAR:
        pytest.skip("needs GNU tar")
    root = tmp_path / "shards"
    root.mkdir()
    WRITERS[writer](root / "a.tar", samples())
    result = catalogue(root)
    assert_index_is_what_tarfile_reads(root, result, 12)
    assert result.catalogue.labels.tolist() == [label for label in range(4) for _ in range(3)]
    assert result.catalogue.table["width"].to_pylist() == [24] * 12


KEYS = st.text(string.ascii_letters + "äß0_- /", min_size=1, max_size=150).map(
    lambda text: "/".join(part.strip() or "x" for part in text.split("/"))[:150]
)


SAMPLES = st.lists(
    st.tuples(KEYS, st.integers(0, 3), st.sampled_from(["", "seg.png", "npy", "0.bin"])),
    min_size=1,
    max_size=6,
    unique_by=lambda one: one[0],
)


@given(SAMPLES, st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, "webdataset"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_shards_are_catalogued_as_tarfile_and_webdataset_read_them(
    drawn: list[tuple[str, int, str]], writer: int | str
) -> None:
    files: Files = []
    for number, (key, label, more) in enumerate(drawn):
        files += sample(key, label, number)[:2]
        if more:
            files.append((f"{key}.{more}", b"x" * (number * 700)))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if isinstance(writer, int):
            write_tar(root / "a.tar", files, writer)
        else:
            long = [name for name, _ in files if len(name.encode()) > 100]
            if long:  # it writes ustar, which has no room for them
                return
            write_with_webdataset(root / "a.tar", files)
        result = catalogue(root)
        assert_index_is_what_tarfile_reads(root, result, len(drawn))
        keys = result.catalogue.table["key"].to_pylist()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import webdataset

            read = webdataset.WebDataset([str(root / "a.tar")], shardshuffle=False)
            assert [one["__key__"] for one in read] == keys


@pytest.mark.skipif(not HAS_TAR, reason="needs GNU tar")
def test_evaluation_streams_what_was_catalogued(tmp_path: Path) -> None:
    root = tmp_path / "shards"
    (root / "below").mkdir(parents=True)
    write_with_gnu_tar(root / "below" / "a.tar", samples(), "gnu")
    write_tar(root / "b.tar", samples(2))
    found = catalogue(root).catalogue
    names = shard_names(found)
    assert names == ["b.tar", "below/a.tar"]
    batches = evaluation_batches(found, fit=Fit(side=24), batch_size=5, num_threads=1, shards=names)
    rows = [row for rows, _ in batches for row in rows.tolist()]
    assert sorted(rows) == list(range(18))


def test_several_processes_find_the_same(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", samples(2))
    one = catalogue(tmp_path).catalogue
    shutil.rmtree(tmp_path / cataloguing.PARTS)
    assert catalogue(tmp_path, processes=2).catalogue.table.equals(one.table)


def test_a_class_with_two_names_is_refused(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "a.tar",
        [*sample("a", 0, 0)[:2], ("a.txt", b"x"), *sample("b", 0, 1)[:2], ("b.txt", b"y")],
    )
    with pytest.raises(ValueError, match="label '0' is named 'x' and 'y'; --names"):
        catalogue(tmp_path, names="txt")


def test_all_faults_of_all_shards_are_told_at_once(tmp_path: Path) -> None:
    for name in "ab":
        write_tar(tmp_path / f"{name}.tar", [*samples(1), ("x.jpg", b""), ("x.cls", b"1")])
    (tmp_path / "c.tar").write_bytes(b"broken" * 999)
    with pytest.raises(ShardError, match=r"a.tar: sample 'x' .* \(and 2 more\)") as error:
        catalogue(tmp_path)
    assert [where.rpartition("/")[2].partition(":")[0] for where, _ in error.value.problems] == [
        *("a.tar", "b.tar", "c.tar")
    ]
    assert not (tmp_path / "index.parquet").exists()


def test_a_finished_shard_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_tar(tmp_path / f"{name}.tar", samples(2))
    (tmp_path / "d.tar").write_bytes(b"broken" * 999)
    with pytest.raises(ShardError):  # the last one stops it
        catalogue(tmp_path)
    (tmp_path / "d.tar").unlink()
    read: list[str] = []
    scan = cataloguing.scan_shard

    def spy(task: cataloguing.ScanTask) -> cataloguing.ShardRows:
        read.append(task.name)
        return scan(task)

    monkeypatch.setattr(cataloguing, "scan_shard", spy)
    first = catalogue(tmp_path)
    assert (read, first.num_reused, len(first.catalogue)) == ([], 3, 18)
    write_tar(tmp_path / "b.tar", samples(3))
    assert len(catalogue(tmp_path).catalogue) == 21
    assert read == ["b.tar"]
    assert catalogue(tmp_path, split="test").num_reused == 0
    for part in (tmp_path / cataloguing.PARTS).iterdir():
        part.write_bytes(b"broken")
    assert catalogue(tmp_path, split="test").num_reused == 0


def test_what_was_skipped_is_read_again_when_it_must_not_be(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [*samples(1), ("bad.jpg", b""), ("bad.cls", b"1")])
    assert catalogue(tmp_path, skip=True).num_problems == 1
    assert catalogue(tmp_path, skip=True).num_reused == 1
    with pytest.raises(ShardError, match="sample 'bad'"):
        catalogue(tmp_path)


def test_a_catalogue_may_lie_elsewhere(tmp_path: Path) -> None:
    write_tar(tmp_path / "shards" / "a.tar", samples(2))
    out = str(tmp_path / "index")
    catalogue_shards(str(tmp_path / "shards"), ["a.tar"], out, Rules(), skip=False, num_processes=1)
    found = read_catalogue(out)
    assert found.shard_uri(0) == str(tmp_path / "shards" / "a.tar")
    assert len(ImageReader(found).read_one(0)) == found.table["size"][0].as_py()
    assert [p.name for p in (tmp_path / "shards").iterdir()] == ["a.tar"]


def test_a_folder_without_shards_or_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no .tar file lies under"):
        find_shards(str(tmp_path))
    write_tar(tmp_path / "a.tar", [])
    with pytest.raises(ValueError, match="none of the 1 shards holds an image"):
        catalogue(tmp_path)
