import pytest

from apdist.data import storage
from apdist.data.storage.inside import is_whole, refuse_outside, refuse_stray

OUTSIDE = ["/etc/passwd", "s3://b/x", "https://h/x", "", ".", "a//b", "a/./b", "a/"]
NOWHERE = ["../a", "a/../b", "a/..", "..", "a\\b", "..\\b", "a\0b", "a\nb", "a" * 1025]
INSIDE = ["a.tar", "a/b.tar", "..a/b..tar", "ä b/é-{1}.tar", "a:b/c", "-x"]


@pytest.mark.parametrize("name", OUTSIDE + NOWHERE)
def test_a_name_that_leads_out_of_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)^list names '.*', which .* or do not use it$"):
        refuse_outside(name, "list")


@pytest.mark.parametrize("name", INSIDE)
def test_a_name_in_a_folder_or_below_it_is_none(name: str) -> None:
    refuse_outside(name, "list")
    refuse_stray(name, "list")
    assert not is_whole(name)


@pytest.mark.parametrize("name", NOWHERE + [f"/data/{name}" for name in NOWHERE[:-1] if name])
def test_an_address_may_lie_elsewhere_but_has_no_way_up(name: str) -> None:
    refuse_stray("/data/a.tar", "list")
    refuse_stray("s3://bucket/a.tar", "list")
    with pytest.raises(ValueError, match="correct it, or do not use it"):
        refuse_stray(name, "list")


def test_an_address_with_a_zero_byte_is_refused_in_a_line() -> None:
    with pytest.raises(storage.StorageError, match=r"'a\\x00b' has a zero byte"):
        storage.version("a\0b")
