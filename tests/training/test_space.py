from pathlib import Path

import pytest

from apdist.config import Config
from apdist.training.space import read_space

GOOD = """
["training.learning_rate"]
distribution = "loguniform"
low = 1e-4
high = 1e-2

["loss.num_bins"]
distribution = "choice"
values = [10, 20]

["data.group_size"]
distribution = "randint"
low = 2
high = 8
"""


def read(tmp_path: Path, text: str) -> list[object]:
    (tmp_path / "space.toml").write_text(text)
    return list(read_space(tmp_path / "space.toml", Config()))


def test_a_space_has_its_dimensions_in_order(tmp_path: Path) -> None:
    names = [d.name for d in read(tmp_path, GOOD)]  # type: ignore[attr-defined]
    assert names == ["training.learning_rate", "loss.num_bins", "data.group_size"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_space_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "space.toml").write_bytes(GOOD.replace("\n", "\r\n").encode(encoding))
    assert len(read_space(tmp_path / "space.toml", Config())) == 3


def test_drawn_values_lie_inside_and_reach_both_ends_of_randint(tmp_path: Path) -> None:
    rate, bins, group = (d.for_tune() for d in read(tmp_path, GOOD))  # type: ignore[attr-defined]
    assert all(1e-4 <= rate.sample() <= 1e-2 for _ in range(50))
    assert {bins.sample() for _ in range(50)} == {10, 20}
    assert {group.sample() for _ in range(400)} == set(range(2, 9))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[", "cannot be read"),
        ('["loss.num_bin"]\ndistribution="choice"\nvalues=[3]', "did you mean 'loss.num_bins'"),
        ('[loss.num_bins]\ndistribution="choice"\nvalues=[3]', "quote the dotted name"),
        ('["loss.num_bins"]\ndistribution="normal"', "needs a distribution, one of uniform"),
        ('["loss.num_bins"]\ndistribution="choice"\nvalues=[]', "no values"),
        ('["loss.num_bins"]\ndistribution="choice"\nvalues=[1]', "at least 2, got 1"),
        ('["loss.num_bins"]\ndistribution="randint"\nlow=3', "takes distribution, high, low"),
        ('["loss.num_bins"]\ndistribution="uniform"\nlow=2.5\nhigh=3.5', "must be of type int"),
        ('["training.learning_rate"]\ndistribution="uniform"\nlow=2\nhigh=1', "low < high"),
        ('["training.learning_rate"]\ndistribution="loguniform"\nlow=0\nhigh=1', "low > 0"),
        ('["ray.num_workers"]\ndistribution="choice"\nvalues=[1]', "same for all trials"),
        ('["training.steps"]\ndistribution="choice"\nvalues=[1]', "same for all trials"),
        ('["training.optimizer"]\ndistribution="choice"\nvalues=["x"]', "one of adamw"),
    ],
)
def test_a_bad_space_is_refused_before_anything_starts(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)
