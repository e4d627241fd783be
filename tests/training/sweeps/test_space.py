from pathlib import Path

import pytest

from apdist.config import Config, override
from apdist.training.sweeps.dimension import Dimension
from apdist.training.sweeps.space import (
    config_of,
    corner_configs,
    losses_of,
    of_config,
    read_space,
)

GOOD = """
["training.learning_rate"]
distribution = "loguniform"
low = 1e-4
high = 1e-2

["loss.num_bins"]
distribution = "choice"
values = [10, 20]

["data.group_size"]
distribution = "int"
low = 2
high = 8
"""


def read(tmp_path: Path, text: str, **loss: object) -> list[Dimension]:
    (tmp_path / "space.toml").write_text(text)
    config = override(Config(), {f"loss.{name}": value for name, value in loss.items()})
    return list(read_space(tmp_path / "space.toml", config))


def choice(name: str, *values: object) -> str:
    return f'["{name}"]\ndistribution = "choice"\nvalues = {list(values)!r}\n'.replace("'", '"')


def test_a_space_has_its_dimensions_in_order(tmp_path: Path) -> None:
    names = [d.name for d in read(tmp_path, GOOD)]
    assert names == ["training.learning_rate", "loss.num_bins", "data.group_size"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_space_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "space.toml").write_bytes(GOOD.replace("\n", "\r\n").encode(encoding))
    assert len(read_space(tmp_path / "space.toml", Config())) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("[", "cannot be read"),
        ('["loss.num_bin"]\ndistribution="choice"\nvalues=[3]', "did you mean 'loss.num_bins'"),
        ('[loss.num_bins]\ndistribution="choice"\nvalues=[3]', "quote the dotted name"),
        ('["loss.num_bins"]\ndistribution="gauss"', "needs a distribution, one of choice"),
        ('["loss.num_bins"]\ndistribution="int"\nlow=2.5\nhigh=4', "needs whole numbers"),
        ('["model.gem_p"]\ndistribution="normal"\nmean=3\nsd=0', "needs sd > 0"),
        ('["training.seed"]\ndistribution="int"\nlow=1\nhigh=4', "seeds a setting are --repeats"),
        ('["loss.num_bins"]\ndistribution="choice"\nvalues=[]', "no values"),
        ('["loss.num_bins"]\ndistribution="choice"\nvalues=[1]', "at least 2, got 1"),
        ('["loss.num_bins"]\ndistribution="int"\nlow=3', "takes distribution, high, low"),
        (f'["loss.num_bins"]\ndistribution="int"\nlow=3\nhigh=1{"0" * 400}', "numbers for low and"),
        ('["loss.num_bins"]\ndistribution="uniform"\nlow=2.5\nhigh=3.5', "must be of type int"),
        (
            '["loss.num_bins"]\ndistribution="uniform"\nlow=8\nhigh=16',
            'must be of type int, got 11.3.*; distribution = "int" draws whole numbers',
        ),
        ('["model.dim"]\ndistribution="loguniform"\nlow=16\nhigh=64', "draws whole numbers"),
        ('["training.learning_rate"]\ndistribution="uniform"\nlow=2\nhigh=1', "low < high"),
        ('["training.learning_rate"]\ndistribution="loguniform"\nlow=0\nhigh=1', "low > 0"),
        ('["ray.num_workers"]\ndistribution="choice"\nvalues=[1]', "same for all trials"),
        ('["training.steps"]\ndistribution="choice"\nvalues=[1]', "same for all trials"),
        ('["training.optimizer"]\ndistribution="choice"\nvalues=["x"]', "one of adamw"),
        (
            '["data.shards"]\ndistribution="choice"\nvalues=["https://h/a?X-Amz-Signature=SECRET"]',
            "has an address with a password",
        ),
        ("# s3://user:SECRET@bucket", "has an address with a password"),
    ],
)
def test_a_bad_space_is_refused_before_anything_starts(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        read(tmp_path, text)
    assert "SECRET" not in str(refused.value)


def test_addresses_that_hold_nothing_secret_may_vary(tmp_path: Path) -> None:
    assert read(tmp_path, choice("data.shards", "s3://bucket/a", "https://host:80/b", "/tmp/c"))


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
    found = losses_of(read(tmp_path, text), Config())
    assert [(loss.kind, loss.arguments) for loss in found] == [
        ("ap", ()),
        ("pml:TripletMarginLoss", ("margin=0.1",)),
        ("pml:TripletMarginLoss", ("margin=0.2",)),
    ]
    assert losses_of([], Config()) == [Config().loss]


CONDITIONAL = (
    choice("loss.margin", 0.1, 0.2)
    + 'when = {"loss.kind" = "triplet"}\n'
    + choice("loss.kind", "ap", "triplet")
)


def test_a_dimension_comes_after_those_that_it_depends_on(tmp_path: Path) -> None:
    kind, margin = read(tmp_path, CONDITIONAL)
    assert (kind.name, margin.name) == ("loss.kind", "loss.margin")
    assert margin.is_drawn({"loss.kind": "triplet"})
    assert not margin.is_drawn({"loss.kind": "ap"})
    assert not margin.is_drawn({})


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ('{"loss.kin" = "ap"}', "no choice of this space; did you mean 'loss.kind'"),
        ('{"loss.kind" = "arcface"}', "is 'arcface', which is none of its values"),
        ('"ap"', "expected when = "),
        ('{"loss.margin" = 0.1}', "go in a ring"),
    ],
)
def test_a_condition_that_can_never_hold_is_refused(
    tmp_path: Path, when: str, message: str
) -> None:
    text = CONDITIONAL.replace('{"loss.kind" = "triplet"}', when)
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_a_value_is_checked_with_the_losses_of_its_condition_alone(tmp_path: Path) -> None:
    text = CONDITIONAL.replace('"triplet"]', '"triplet", "arcface"]').replace("0.2", "1.9")
    assert read(tmp_path, text)  # arcface takes no such margin
    with pytest.raises(ValueError, match="must lie in"):
        read(tmp_path, text.replace('when = {"loss.kind" = "triplet"}\n', "").replace("1.9", "9"))


def test_each_choice_and_both_ends_are_checked_by_themselves(tmp_path: Path) -> None:
    found = corner_configs(read(tmp_path, GOOD), Config())
    changed = {(c.training.learning_rate, c.loss.num_bins, c.data.group_size) for c in found}
    usual = Config()
    rate, bins, group = (
        usual.training.learning_rate,
        usual.loss.num_bins,
        usual.data.group_size,
    )
    ends = {(1e-4, bins, group), (1e-2, bins, group), (rate, bins, 2), (rate, bins, 8)}
    assert changed == {(rate, 10, group), (rate, 20, group), (rate, bins, group), *ends}


def test_an_earlier_run_is_a_setting_where_its_values_are_in_the_space(tmp_path: Path) -> None:
    dimensions = read(tmp_path, CONDITIONAL)
    run = config_of(Config(), {"loss.kind": "triplet", "loss.margin": 0.2})
    assert of_config(dimensions, run) == {"loss.kind": "triplet", "loss.margin": 0.2}
    assert of_config(dimensions, Config()) == {"loss.kind": "ap"}
    with pytest.raises(ValueError, match=r"its loss.margin is 0.3, and the space has 0.1"):
        of_config(dimensions, override(run, {"loss.margin": 0.3}))


def test_a_setting_has_no_option_that_its_loss_does_not_have() -> None:
    config = config_of(Config(), {"loss.kind": "ap", "loss.margin": 0.2, "loss.num_bins": 9})
    assert (config.loss.margin, config.loss.num_bins) == ("auto", 9)


@pytest.mark.parametrize("values", ["5", "nan", "true", '"ap"', "1979-05-27"])
def test_values_are_a_list(tmp_path: Path, values: str) -> None:
    text = f'["loss.num_bins"]\ndistribution = "choice"\nvalues = {values}\n'
    with pytest.raises(ValueError, match=r"loss\.num_bins: values must be a list, got"):
        read(tmp_path, text)


@pytest.mark.parametrize("kind", ["[]", "{}", "1"])
def test_a_distribution_is_a_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match="needs a distribution, one of choice"):
        read(tmp_path, f'["loss.num_bins"]\ndistribution = {kind}\n')
