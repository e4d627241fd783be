"""Shards of others: the catalogue says what `tarfile` reads, and nothing is dropped silently."""

import gzip
import io
import shutil
import string
import tarfile
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.reader import ImageReader
from apdist.data.loading.sequential import evaluation_batches, shard_names
from apdist.data.preparing import cataloguing
from apdist.data.preparing.cataloguing import (
    Catalogued,
    catalogue_shards,
    expand_braces,
    find_shards,
)
from apdist.data.preparing.labels import number_labels
from apdist.data.preparing.samples import Rules
from apdist.data.preparing.scanning import ShardError
from apdist.data.preparing.tars import DamageError, members
from tests.foreign import (
    Files,
    read_with_tarfile,
    sample,
    samples,
    write_tar,
    write_with_gnu_tar,
    write_with_webdataset,
)
from tests.pictures import encoded, picture

HAS_TAR = shutil.which("tar") is not None
IMAGE = encoded(picture(0, 0), "JPEG")


def catalogue(root: Path, *, skip: bool = False, processes: int = 1, **rules: str) -> Catalogued:
    where = str(root)
    return catalogue_shards(
        where, find_shards(where), where, Rules(**rules), skip=skip, num_processes=processes
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
    batches = evaluation_batches(found, side=24, batch_size=5, num_threads=1, shards=names)
    rows = [row for rows, _ in batches for row in rows.tolist()]
    assert sorted(rows) == list(range(18))


def test_several_processes_find_the_same(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"{number}.tar", samples(2))
    one = catalogue(tmp_path).catalogue
    shutil.rmtree(tmp_path / cataloguing.PARTS)
    assert catalogue(tmp_path, processes=2).catalogue.table.equals(one.table)


@pytest.mark.parametrize(
    ("rules", "labels", "names"),
    [
        ({}, [0, 1], ["0", "1"]),
        ({"names": "txt"}, [0, 1], ["name 0", "name 1"]),
        ({"label": "json:label"}, [0, 1], ["class 0", "class 1"]),
        ({"label": "json:id", "names": "json:label"}, [7, 8], ["class 0", "class 1"]),
        ({"label": r"key:^(\w+)/"}, [0, 1], ["c0", "c1"]),
    ],
)
def test_labels_and_names_follow_the_rules(
    tmp_path: Path, rules: dict[str, str], labels: list[int], names: list[str]
) -> None:
    write_tar(tmp_path / "a.tar", sample("c0/x", 0, 0, id=7) + sample("c1/x", 1, 0, id=8))
    found = catalogue(tmp_path, **rules).catalogue
    assert found.labels.tolist() == labels
    assert found.table["label_name"].to_pylist() == names


@pytest.mark.parametrize("rule", [r"shard:^(\w+)/", "json:split"])
def test_splits_follow_the_rules(tmp_path: Path, rule: str) -> None:
    write_tar(tmp_path / "train" / "0.tar", sample("a", 0, 0, split="train"))
    write_tar(tmp_path / "val" / "0.tar", sample("a", 1, 0, split="val"))
    result = catalogue(tmp_path, split=rule)
    assert result.catalogue.splits() == {"train": 1, "val": 1}
    assert result.num_repeated_keys == 1
    assert result.catalogue.table["source"].to_pylist() == ["train/0.tar/a", "val/0.tar/a"]


def test_of_several_images_the_first_known_one_or_the_one_asked_for_is_taken(
    tmp_path: Path,
) -> None:
    other = encoded(picture(1, 1))
    write_tar(tmp_path / "a.tar", [("k.seg.png", other), ("k.jpg", IMAGE), ("k.cls", b"1")])
    assert catalogue(tmp_path).catalogue.table["size"].to_pylist() == [len(IMAGE)]
    found = catalogue(tmp_path, image_extension="seg.png").catalogue
    assert ImageReader(found).read_one(0) == other


@pytest.mark.parametrize(
    ("files", "rules", "message"),
    [
        ([("k.jpg", IMAGE)], {}, r"has no .cls for --label cls; it has .jpg"),
        ([("k.jpg", IMAGE), ("k.cls", b" ")], {}, "has an empty .cls"),
        ([("k.jpg", IMAGE), ("k.cls", b"\xff")], {}, "no UTF-8 text"),
        ([("k.jpg", b""), ("k.cls", b"1")], {}, r"is empty \(0 bytes\)"),
        ([("k.jpg", b"no image"), ("k.cls", b"1")], {}, "is no image that Pillow can read"),
        ([("k.mp4", b"x"), ("k.cls", b"1")], {}, "has no image member; it has .mp4, .cls"),
        ([("k.jpg", IMAGE), ("k.cls", b"1")], {"image_extension": "png"}, "has no .png; it has"),
        ([("k.a.jpg", IMAGE), ("k.b.jpg", IMAGE)], {}, "several images .* --image-extension"),
        ([("k.jpg", IMAGE), ("k.JPG", IMAGE), ("k.cls", b"1")], {}, "has two members .jpg"),
        ([("k.jpg", IMAGE)], {"label": "json:id"}, "has no .json for --label json:id"),
        ([("k.jpg", IMAGE), ("k.json", b"{")], {"label": "json:id"}, "cannot be read"),
        ([("k.jpg", IMAGE), ("k.json", b'{"a": 1}')], {"label": "json:id"}, "'id' in its .json, w"),
        ([("k.jpg", IMAGE), ("k.json", b"[1]")], {"label": "json:id"}, "which has no object"),
        ([("k.jpg", IMAGE), ("k.json", b'{"id": 1.5}')], {"label": "json:id"}, "has 1.5 in"),
        ([("k.jpg", IMAGE)], {"label": "key:(x)"}, "'k' that --label key:.x. does not match"),
        ([("k.jpg", IMAGE), ("k.cls", b"1")], {"split": "shard:(x)"}, "--split shard:.x. does"),
        (
            [("k.jpg", IMAGE), ("k.json", b'{"split": "my split"}'), ("k.cls", b"1")],
            {"split": "json:split"},
            "split 'my split', which is no plain word",
        ),
    ],
)
def test_a_sample_that_cannot_be_used_is_named_or_skipped_and_counted(
    tmp_path: Path, files: Files, rules: dict[str, str], message: str
) -> None:
    write_tar(tmp_path / "a.tar", files)
    where = r"a.tar: sample 'k' at byte \d+ "
    with pytest.raises(ShardError, match=f"{where}.*{message}.*--on-corrupt skip"):
        catalogue(tmp_path, **rules)
    assert not (tmp_path / "index.parquet").exists()
    good = sample("good", 0, 0, id=1, split="train")
    shard = "x.tar" if rules.get("split") == "shard:(x)" else "b.tar"
    key = [("x" + name, data) for name, data in good]
    write_tar(tmp_path / shard, [(n.replace(".jpg", ".png"), d) for n, d in key] if
              rules.get("image_extension") else key)  # fmt: skip
    result = catalogue(tmp_path, skip=True, **rules)
    assert (result.num_problems, len(result.catalogue)) == (1, 1)
    assert "sample 'k'" in result.problems[0]


def test_a_key_that_comes_again_is_refused_with_its_place(tmp_path: Path) -> None:
    files = samples(1)
    write_tar(tmp_path / "a.tar", files + files[:4])
    with pytest.raises(ShardError, match=r"'c0/0000' at byte \d+ has a key that came before"):
        catalogue(tmp_path)
    result = catalogue(tmp_path, skip=True)
    assert (len(result.catalogue), result.num_problems) == (3, 1)


def test_a_class_with_two_names_is_refused(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "a.tar",
        [*sample("a", 0, 0)[:2], ("a.txt", b"x"), *sample("b", 0, 1)[:2], ("b.txt", b"y")],
    )
    with pytest.raises(ValueError, match="label '0' is named 'x' and 'y'; --names"):
        catalogue(tmp_path, names="txt")


def cut(root: Path, size: int) -> None:
    path = root / "a.tar"
    path.write_bytes(path.read_bytes()[:size])


def test_a_shard_that_is_cut_anywhere_is_refused_and_skipping_keeps_what_is_whole(
    tmp_path: Path,
) -> None:
    write_tar(tmp_path / "a.tar", samples(2))
    whole = (tmp_path / "a.tar").read_bytes()
    table = catalogue(tmp_path).catalogue.table.to_pylist()
    end = max(i for i in range(0, len(whole), 512) if whole[i : i + 512].strip(b"\0")) + 512
    for size in [*range(0, end, 512), *range(37, end, 1999), end]:
        cut(tmp_path, size)
        with pytest.raises(ShardError, match=r"a.tar (is cut off|ends at byte|is no tar)"):
            catalogue(tmp_path)
        whole_images = [row for row in table if row["offset"] + row["size"] <= size]
        if len(whole_images) > 1:  # of the last one the label may be behind the cut
            found = catalogue(tmp_path, skip=True)
            assert found.num_problems
            assert found.catalogue.table.to_pylist()[: len(whole_images) - 1] == whole_images[:-1]
        (tmp_path / "a.tar").write_bytes(whole)


def test_where_a_shard_was_cut_is_said(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", samples(1))
    row = catalogue(tmp_path).catalogue.table.to_pylist()[1]
    for size, message in (
        (row["offset"] + 10, r"after byte \d+, in or behind '.*1\.jpg' \(unexpected end of data\)"),
        (row["offset"] - 512, rf"ends at byte {row['offset'] - 512} without a tar's end mark"),
        (row["offset"] - 500, rf"cut off .* at or after byte {row['offset'] - 512}"),
    ):
        cut(tmp_path, size)
        with pytest.raises(ShardError, match=message):
            catalogue(tmp_path)
        write_tar(tmp_path / "a.tar", samples(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", r"is no tar \(empty file\)"),
        (lambda data: b"hello" * 999, r"is no tar \(invalid header\)"),
        (gzip.compress, "is compressed with gzip; .* unpack it first"),
        (lambda data: data + data, "goes on behind its end mark, after byte"),
        (
            lambda data: data[:1541] + b"\x7f" + data[1542:],
            r"at or after byte 1536, in or behind 'a.jpg' \(bad checksum",
        ),
    ],
)
def test_what_is_no_sound_tar_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], message: str
) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x" * 700), ("b.jpg", IMAGE)])
    data = change((tmp_path / "a.tar").read_bytes())
    with pytest.raises(DamageError, match=message):
        list(members(io.BytesIO(data), lambda name: False))


def test_a_tar_with_one_of_its_two_end_blocks_is_whole(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("a.jpg", b"x" * 512)])
    cut(tmp_path, 3 * 512)
    with (tmp_path / "a.tar").open("rb") as file:
        assert [member.data for member in members(file, lambda name: True)] == [b"x" * 512]


@pytest.mark.skipif(not HAS_TAR, reason="needs GNU tar")
def test_a_sparse_member_is_refused(tmp_path: Path) -> None:
    import subprocess

    with (tmp_path / "k.jpg").open("wb") as file:
        file.write(IMAGE)
        file.truncate(1 << 20)
    subprocess.run(["tar", "--sparse", "-cf", "a.tar", "k.jpg"], cwd=tmp_path, check=True)
    with pytest.raises(ShardError, match="holds the sparse file 'k.jpg'"):
        catalogue(tmp_path, label=r"key:(\w)")


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

    def spy(job: cataloguing.Job) -> cataloguing.ShardRows:
        read.append(job.name)
        return scan(job)

    monkeypatch.setattr(cataloguing, "scan_shard", spy)
    first = catalogue(tmp_path)
    assert (read, first.num_reused, len(first.catalogue)) == ([], 3, 18)
    write_tar(tmp_path / "b.tar", samples(3))
    assert len(catalogue(tmp_path).catalogue) == 21
    assert read == ["b.tar"]
    assert catalogue(tmp_path, split="test").num_reused == 0
    part = next((tmp_path / cataloguing.PARTS).iterdir())
    part.write_bytes(b"broken")
    assert catalogue(tmp_path, split="test").num_reused == 2


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


def test_braces_are_spelled_out() -> None:
    assert expand_braces("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expand_braces("{x,y}-{0..1}") == ["x-0", "x-1", "y-0", "y-1"]
    assert expand_braces("plain.tar") == ["plain.tar"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("a-{0..1", "without its other half"),
        ("a-{x}", "expected {000..031} or {a,b}, got {x}"),
        ("a-{5..3}.tar", "the range {5..3} runs backwards"),
        ("a-{0..999999999}.tar", "spells out more than 1000000 names"),
        ("{0..9999}-{0..9999}.tar", "spells out more than 1000000 names"),
    ],
)
def test_bad_braces_are_refused(pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand_braces(pattern)
    with pytest.raises(ValueError, match="names 'a.tar' twice"):
        find_shards("x", ("a.tar", "{a,b}.tar"))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"label": "txt"}, "--label must be cls or json:FIELD or key:PATTERN, got 'txt'"),
        ({"label": "json:"}, "--label must be"),
        ({"label": "key:("}, "no regular expression"),
        ({"label": "key:a"}, "needs exactly one group"),
        ({"names": "cls"}, "--names must be txt or json:FIELD"),
        ({"split": "my split"}, "--split must be a plain word"),
        ({"split": "key:(a)"}, "--split must be a plain word"),
        ({"split": "shard:(a)(b)"}, "exactly one group .* has 2"),
    ],
)
def test_bad_rules_are_refused(rules: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(**rules)


def test_whole_numbers_stay_what_they_are_and_texts_are_numbered() -> None:
    assert number_labels(["10", "2"]) == {"10": 10, "2": 2}
    assert number_labels(["b", "a", "b"]) == {"a": 0, "b": 1}
    assert number_labels(["007", "7"]) == {"007": 0, "7": 1}
    assert number_labels([str(1 << 63)]) == {str(1 << 63): 0}
