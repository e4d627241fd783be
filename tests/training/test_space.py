from pathlib import Path

import pytest

from apdist.config import Config, override
from apdist.training.space import losses_of, read_space

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


def read(tmp_path: Path, text: str, **loss: object) -> list[object]:
    (tmp_path / "space.toml").write_text(text)
    config = override(Config(), {f"loss.{name}": value for name, value in loss.items()})
    return list(read_space(tmp_path / "space.toml", config))


def choice(name: str, *values: object) -> str:
    return f'["{name}"]\ndistribution = "choice"\nvalues = {list(values)!r}\n'.replace("'", '"')


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


KINDS = choice("loss.kind", "ap", "triplet", "arcface")


def test_options_of_one_of_the_losses_may_vary_with_the_loss(tmp_path: Path) -> None:
    text = KINDS + choice("loss.margin", 0.1, 0.2) + choice("loss.num_bins", 9)
    assert len(read(tmp_path, text)) == 3
    assert read(tmp_path, choice("loss.margin", 0.1), kind="triplet")
    sums = choice("loss.terms", ["ap=1"], ["ap=1", "calibration=0.1"])
    assert len(read(tmp_path, sums + choice("loss.positive_margin", 0.8, "auto"))) == 2


@pytest.mark.parametrize(
    ("text", "loss", "message"),
    [
        (choice("loss.margin", 0.1), {}, r"loss.margin is no option of ap, .*: triplet, contr"),
        (choice("loss.num_bins", 9), {"kind": "triplet"}, "is no option of triplet"),
        (KINDS + choice("loss.ks", [1, 2]), {}, "loss.ks is no option of ap"),
        (KINDS + choice("loss.margin", 2.5), {}, r"must lie in \[0, 2\], got 2.5 \(triplet\)"),
        (choice("loss.kind", "tripel"), {}, "did you mean 'triplet'"),
        (KINDS, {"kind": "triplet", "margin": 0.2}, "loss.margin 0.2 is no option of ap"),
        (KINDS + choice("loss.terms", ["ap=1"]), {}, "loss.kind and loss.terms cannot both vary"),
        (choice("loss.terms", ["ap"]), {}, "must be NAME=WEIGHT"),
        (choice("loss.terms", "ap=1"), {}, "loss.terms must be a list, got 'ap=1'"),
    ],
)
def test_what_no_loss_of_the_space_has_is_refused(
    tmp_path: Path, text: str, loss: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text, **loss)


def test_every_loss_of_a_space_is_known_with_its_arguments(tmp_path: Path) -> None:
    text = choice("loss.kind", "ap", "pml:TripletMarginLoss")
    text += choice("loss.arguments", ["margin=0.1"], ["margin=0.2"])
    found = losses_of(read(tmp_path, text), Config())  # type: ignore[arg-type]
    assert [(loss.kind, loss.arguments) for loss in found] == [
        ("ap", ()),
        ("pml:TripletMarginLoss", ("margin=0.1",)),
        ("pml:TripletMarginLoss", ("margin=0.2",)),
    ]
    assert losses_of([], Config()) == [Config().loss]


@pytest.mark.parametrize("values", ["5", "nan", "true", '"ap"', "1979-05-27"])
def test_values_are_a_list(tmp_path: Path, values: str) -> None:
    text = f'["loss.num_bins"]\ndistribution = "choice"\nvalues = {values}\n'
    with pytest.raises(ValueError, match=r"loss\.num_bins: values must be a list, got"):
        read(tmp_path, text)


@pytest.mark.parametrize("kind", ["[]", "{}", "1"])
def test_a_distribution_is_a_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="needs a distribution, one of uniform"):
        read(tmp_path, f'["loss.num_bins"]\ndistribution = {kind}\n')
