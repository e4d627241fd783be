from pathlib import Path

import pytest

from apdist.data.preparing.published.place import Place, cells, integer, text_lines
from tests.published import drawn, write


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_is_read_however_it_was_saved(tmp_path: Path, end: str, encoding: str) -> None:
    lines = ["a b", "1  ü/ä.jpg", "", "2\tx.jpg"]
    path = tmp_path / "list.txt"
    path.write_bytes(end.join(lines).encode(encoding))
    assert text_lines(path) == lines
    assert list(cells(path, "n", "p", skip=1)) == [(2, ["1", "ü/ä.jpg"]), (4, ["2", "x.jpg"])]


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match="list.txt is no text in UTF-8"):
        text_lines(tmp_path / "list.txt")


@pytest.mark.parametrize("text", ["", "x", "-1", "1.0", "²", "9" * 5000])
def test_what_is_no_whole_number_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="x.txt line 3: class '.{0,60}' is no whole number"):
        integer(tmp_path / "x.txt", 3, "class", text)


def test_a_list_is_found_in_root_or_in_a_folder_of_it(tmp_path: Path) -> None:
    place = Place(drawn("inshop", tmp_path), tmp_path)
    assert place.file("list_eval_partition.txt").parent.name == "Eval"
    write(tmp_path, "list_eval_partition.txt", "0")
    assert place.file("list_eval_partition.txt").parent == tmp_path


def test_a_missing_picture_is_told_by_the_name_that_it_would_have(tmp_path: Path) -> None:
    place = Place(drawn("roxford5k", tmp_path), tmp_path)
    assert place.named("all_souls_000001") == "jpg/all_souls_000001.jpg"
    assert place.named("x") == "x.jpg"
