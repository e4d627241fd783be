"""Pictures to shards in a cache: once, and again when they have changed."""

import os
from pathlib import Path

import pytest

from apdist.config import Config
from apdist.data.catalogue.catalogue import read_catalogue
from apdist_verbs.start.pictures import cache_root, shards_of, table_of, with_images
from apdist_verbs.start.start import Options
from tests.pictures import encoded, picture, write_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APDIST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def options(images: Path, **changes: str) -> Options:
    return Options(images=str(images), split_by_class=0.5, **changes)  # type: ignore[arg-type]


def flat_folder(root: Path, header: str = "path,label") -> Path:
    root.mkdir()
    rows = [header]
    for number in range(8):
        (root / f"{number}.png").write_bytes(encoded(picture(number // 2, number)))
        rows.append(f"{number}.png,class {number // 2}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def test_pictures_are_prepared_once_and_again_when_they_have_changed(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "my pictures"
    write_folder(images, {"a": 2, "b": 2})
    first = shards_of(options(images))
    assert Path(first).parent == cache
    assert f"into {first}" in capsys.readouterr().out
    assert shards_of(options(images)) == first
    assert "has not changed" in capsys.readouterr().out
    (images / "a" / "more.png").write_bytes(encoded(picture(0, 9)))
    second = shards_of(options(images))
    assert "again: files or options have changed" in capsys.readouterr().out
    assert (len(read_catalogue(first)), len(read_catalogue(second))) == (4, 5)
    assert shards_of(options(images, on_corrupt="skip")) not in (first, second)
    assert not list(cache.glob(".*"))


def test_a_flat_folder_with_a_list_works_the_same_way(tmp_path: Path) -> None:
    images = flat_folder(tmp_path / "flat")
    shards = shards_of(options(images))
    assert set(read_catalogue(shards).column("label_name").to_pylist()) == {
        f"class {number}" for number in range(4)
    }
    assert shards_of(options(images)) == shards
    os.utime(images / "3.png", (1, 1))
    assert shards_of(options(images)) != shards


def test_columns_of_other_names_are_options_of_the_training_too(tmp_path: Path) -> None:
    images = flat_folder(tmp_path / "flat", "file,label")
    with pytest.raises(ValueError, match=r"no column 'path'.*name one with --path-column"):
        shards_of(options(images))
    assert len(read_catalogue(shards_of(options(images, path_column="file")))) == 8


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_folder(images, {"a": 2, "b": 2})
    shards = Path(shards_of(options(images)))
    (shards / "index.parquet").unlink()
    assert shards_of(options(images)) == str(shards)
    assert len(read_catalogue(str(shards))) == 4


def test_a_list_beside_class_folders_is_one_more_file(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"a": 2, "b": 2})
    (tmp_path / "images" / "notes.csv").write_text("x")
    assert table_of(tmp_path / "images") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "nothing does not exist; expected a folder"),
        ("FLAT", "FLAT does not exist; 'flat' is there, with other capitals; expected a folder"),
        ("flat/0.png", "is neither a folder of pictures nor a list"),
        ("flat", "holds 2 lists .*give the one to use: "),
    ],
)
def test_what_holds_no_pictures_is_refused(tmp_path: Path, name: str, message: str) -> None:
    (flat_folder(tmp_path / "flat") / "more.csv").write_text("path,label\n")
    with pytest.raises(ValueError, match=message):
        shards_of(options(tmp_path / name))


def test_options_of_pictures_without_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="--on-corrupt says how pictures are prepared, and none"):
        with_images(Options(on_corrupt="skip"), Config(), pytest.fail)
    assert with_images(Options(), Config(), pytest.fail) == Config()


def test_what_else_may_be_refused_is_looked_at_before_pictures_are_prepared(
    tmp_path: Path, cache: Path
) -> None:
    images = tmp_path / "images"
    write_folder(images, {"a": 2, "b": 2})

    def missing() -> None:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        with_images(options(images), Config(), missing)
    assert not list(cache.iterdir())
    shards = with_images(options(images), Config(), lambda: None).data.shards
    assert shards == with_images(options(images), Config(), pytest.fail).data.shards


def test_the_cache_lies_where_other_programs_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APDIST_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/disk/cache")
    assert cache_root() == Path("/disk/cache/apdist")
