import dataclasses
import errno
import json
import multiprocessing
import resource
import tarfile
import warnings
from itertools import groupby
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue, write_catalogue
from apdist.data.preparing.shards import (
    RUN_LENGTH,
    Encoded,
    Item,
    RefusedError,
    arrange,
    unique_keys,
    write_shards,
)
from apdist.data.storage import StorageError
from tests.pictures import encode_picture, items, refuse, write_small_set


def test_the_catalogue_points_at_the_bytes_that_tarfile_reads(shards: Path) -> None:
    catalogue = read_catalogue(str(shards))
    members: dict[str, bytes] = {}
    for path in sorted(shards.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                assert file is not None
                members[f"{path.name}/{member.name}"] = file.read()
    assert len(members) == 2 * len(catalogue)
    for row in catalogue.table.to_pylist():
        with (shards / row["shard"]).open("rb") as file:
            file.seek(row["offset"])
            assert file.read(row["size"]) == members[f"{row['shard']}/{row['key']}.png"]
        label = json.loads(members[f"{row['shard']}/{row['key']}.json"])
        assert label["label"] == row["label"]


def test_webdataset_reads_the_shards(shards: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # webdataset's own imports
        import webdataset

        urls = [str(path) for path in sorted(shards.glob("*.tar"))]
        samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert len(samples) == len(read_catalogue(str(shards)))
    assert {"png", "json"} <= set(samples[0])


def test_the_images_of_a_class_lie_side_by_side_and_splits_apart(shards: Path) -> None:
    catalogue = read_catalogue(str(shards))
    assert len(list(groupby(catalogue.labels.tolist()))) == 12
    assert {name.split("-")[0] for name in catalogue.select("test").table["shard"].to_pylist()} == {
        "test"
    }


def test_a_large_class_gets_several_runs_and_none_of_one_image() -> None:
    many = [Item(str(i), 0, "a", "train", i) for i in range(2 * RUN_LENGTH + 1)]
    few = [Item(str(i), 1, "b", "train", i) for i in range(5)]
    runs = [
        len(list(run)) for _, run in groupby(arrange(many + few * 1, seed=1), key=lambda i: i.label)
    ]
    assert sum(runs) == 2 * RUN_LENGTH + 6
    assert min(runs) > 1


def test_the_order_of_runs_and_of_the_images_in_them_is_drawn_by_the_seed() -> None:
    given = items(num_classes=20, num_test=10)
    arranged = arrange(given, seed=0)
    assert arranged == arrange(given, seed=0) != arrange(given, seed=1)
    assert sorted(arranged, key=lambda item: item.content) == given
    assert [split for split, _ in groupby(item.split for item in arranged)] == ["test", "train"]
    labels = [label for label, _ in groupby(item.label for item in arranged)]
    assert len(labels) == 20
    assert labels[:10] != sorted(labels[:10])
    numbers = [item.content[1] for item in arranged if item.label == 0]
    assert numbers != sorted(numbers)


def test_shards_end_at_their_size(tmp_path: Path) -> None:
    small = write_small_set(tmp_path / "a", shard_bytes=10_000)
    large = write_small_set(tmp_path / "b", shard_bytes=10_000_000)
    assert len(large.shards) == 2  # one a split
    assert len(small.shards) > 4
    assert all(
        (tmp_path / "a" / name).stat().st_size == size for name, (size, _) in small.shards.items()
    )


def test_the_same_seed_writes_the_same_bytes_with_any_number_of_processes(tmp_path: Path) -> None:
    for name, processes in (("a", 1), ("b", 2)):
        write_shards(
            items(),
            encode_picture,
            str(tmp_path / name),
            shard_bytes=20_000,
            num_processes=processes,
            on_refused=refuse,
        )
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_folder_with_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not empty"):
        write_small_set(tmp_path)


def test_an_image_that_is_refused_leaves_nothing_behind(tmp_path: Path) -> None:
    def encode(content: tuple[int, int]) -> Encoded:
        return Encoded(refused="is broken") if content == (11, 5) else encode_picture(content)

    with pytest.raises(ValueError, match="class 11/picture 5.png is broken"):
        write_shards(items(), encode, str(tmp_path / "x"), shard_bytes=5000, on_refused=refuse)
    assert not (tmp_path / "x").exists() or not any((tmp_path / "x").iterdir())


def test_all_items_without_an_image_are_named_before_it_ends(tmp_path: Path) -> None:
    broken = {(3, 1), (11, 5), (0, 0)}

    def encode(content: tuple[int, int]) -> Encoded:
        return Encoded(refused="is broken") if content in broken else encode_picture(content)

    def write(*, is_strict: bool) -> Catalogue:
        return write_shards(
            items(),
            encode,
            str(tmp_path / "x"),
            shard_bytes=5000,
            is_strict=is_strict,
            on_refused=lambda item, _reason: named.append(item.content),
        )

    named: list[tuple[int, int]] = []
    with pytest.raises(RefusedError, match="no readable image in 3 of 72 files"):
        write(is_strict=True)
    assert set(named) == broken
    assert not (tmp_path / "x").exists() or not any((tmp_path / "x").iterdir())
    assert len(write(is_strict=False)) == 69
    assert sorted(named) == sorted([*broken, *broken])


def test_a_set_of_which_no_item_has_an_image_is_refused_though_such_are_skipped(
    tmp_path: Path,
) -> None:
    with pytest.raises(RefusedError, match="none of the 72 files is a readable image"):
        write_shards(
            items(),
            lambda _: Encoded(refused="is broken"),
            str(tmp_path / "x"),
            shard_bytes=5000,
            is_strict=False,
            on_refused=lambda _item, _reason: None,
        )
    assert not (tmp_path / "x").exists()


def test_no_shard_is_written_once_an_item_has_no_image(tmp_path: Path) -> None:
    def encode(content: tuple[int, int]) -> Encoded:  # the split test, which comes first, is broken
        return Encoded(refused="is broken") if content[0] < 4 else encode_picture(content)

    written: list[Path] = []
    with pytest.raises(RefusedError):
        write_shards(
            items(),
            encode,
            str(tmp_path / "x"),
            shard_bytes=2000,
            on_refused=lambda _item, _reason: None,
            progress=lambda _done: written.extend(tmp_path.rglob("*.tar")),
        )
    assert not written


def test_what_should_be_counted_of_an_image_is_told(tmp_path: Path) -> None:
    def encode(content: tuple[int, int]) -> Encoded:
        return dataclasses.replace(encode_picture(content), remark="odd" if content[0] == 2 else "")

    told: list[tuple[int, str]] = []
    write_shards(
        items(),
        encode,
        str(tmp_path / "x"),
        shard_bytes=5000,
        on_refused=refuse,
        on_remark=lambda item, remark: told.append((item.label, remark)),
    )
    assert told == [(2, "odd")] * 6


def test_processes_have_ended_when_an_error_is_told(tmp_path: Path) -> None:
    def stop(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as error:
        write_shards(
            items(),
            encode_picture,
            str(tmp_path / "out"),
            shard_bytes=20_000,
            num_processes=2,
            on_refused=refuse,
            progress=stop,
        )
    # The traceback holds all frames: what is left to the garbage collector is still there.
    assert error.tb is not None
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("shard_bytes", "name"), [(10_000, "test-000001.tar"), (1 << 20, "train-000000.tar")]
)
def test_a_shard_that_cannot_be_put_in_its_place_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard_bytes: int, name: str
) -> None:
    placed: list[str] = []

    def fail(uri: str) -> storage.Version:
        placed.append(uri)
        if len(placed) == 2:
            raise OSError(errno.EIO, "I/O error", uri)
        return storage.Version(1, "")

    monkeypatch.setattr(storage, "version", fail)
    with pytest.raises(storage.StorageError, match=rf"{name} cannot be written \(I/O error\)"):
        write_small_set(tmp_path / "x", shard_bytes=shard_bytes)
    assert not (tmp_path / "x").exists()


def test_what_belongs_to_a_set_is_written_before_its_catalogue_or_nothing_is(
    tmp_path: Path,
) -> None:
    seen: list[int] = []

    def beside(catalogue: Catalogue) -> None:
        assert not (tmp_path / "x" / "index.parquet").exists()
        seen.append(len(catalogue))

    def fail(_: Catalogue) -> None:
        raise ValueError("no")

    few = items(num_classes=2, num_test=1)
    options = {"shard_bytes": 20_000, "on_refused": refuse}
    write_shards(few, encode_picture, str(tmp_path / "x"), beside=beside, **options)
    assert seen == [12]
    with pytest.raises(ValueError, match="no"):
        write_shards(few, encode_picture, str(tmp_path / "y"), beside=fail, **options)
    assert not (tmp_path / "y").exists()


def test_keys_have_no_dot_and_are_unique() -> None:
    sources = ["a/b.c.jpg", "a/b_c.png", "a/b_c.gif", "ä ö/ü.JPG", ".jpg"]
    keys = list(unique_keys(sources))
    assert len(set(keys)) == len(sources)
    assert not any("." in key or " " in key for key in keys)
    assert keys[3] == "ä_ö/ü"


def test_a_catalogue_that_is_missing_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="apdist prepare folder"):
        read_catalogue(str(tmp_path))


def test_shards_that_a_killed_prepare_left_are_told_apart(tmp_path: Path) -> None:
    write_small_set(tmp_path)
    (tmp_path / "index.parquet").unlink()
    with pytest.raises(ValueError, match=r"no index.parquet: .* that was cut off .* remove"):
        read_catalogue(str(tmp_path))
    with pytest.raises(ValueError, match=r"no index.parquet: .* that was cut off .* remove"):
        write_small_set(tmp_path)


def test_a_damaged_catalogue_is_refused(tmp_path: Path) -> None:
    catalogue = write_small_set(tmp_path)
    path = tmp_path / "index.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        read_catalogue(str(tmp_path))
    pq.write_table(catalogue.table, path)  # no metadata of ours
    with pytest.raises(ValueError, match="no catalogue of apdist"):
        read_catalogue(str(tmp_path))


def test_a_catalogue_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = write_small_set(tmp_path)
    monkeypatch.setattr("apdist.data.catalogue.catalogue.FORMAT_VERSION", 99)
    write_catalogue(catalogue)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format version 99"):
        read_catalogue(str(tmp_path))


def test_a_split_that_is_not_there_names_those_that_are(shards: Path) -> None:
    with pytest.raises(ValueError, match=r"test \(24 images\), train \(48 images\)"):
        read_catalogue(str(shards)).select("val")


def test_a_catalogue_survives_being_written(shards: Path, tmp_path: Path) -> None:
    catalogue = read_catalogue(str(shards))
    write_catalogue(dataclasses.replace(catalogue, root=str(tmp_path)))
    again = read_catalogue(str(tmp_path))
    assert again.table.equals(catalogue.table)
    assert again.shards == catalogue.shards
    assert isinstance(again, Catalogue)


def test_a_disk_that_is_full_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (80_000, limits[1]))  # closing the file fails, too
    try:
        with pytest.raises(StorageError, match=r"train-000000.tar cannot be written .*make room"):
            write_small_set(tmp_path / "out", shard_bytes=1 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
