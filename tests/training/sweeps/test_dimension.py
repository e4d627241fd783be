import random
from statistics import fmean, stdev

import pytest

from apdist.training.sweeps.dimension import Dimension

SHARES = [(i + 0.5) / 1000 for i in range(1000)]


def test_draws_lie_inside_and_reach_both_ends() -> None:
    rate = Dimension("r", "loguniform", 1e-4, 1e-2)
    drawn = [rate.at(share) for share in SHARES]
    assert min(drawn) >= 1e-4
    assert max(drawn) <= 1e-2
    assert sum(value < 1e-3 for value in drawn) == 500
    whole = Dimension("i", "int", 2, 8)
    assert {whole.at(share) for share in (0.0, *SHARES, 1 - 2**-53)} == set(range(2, 9))
    logged = Dimension("i", "int", 1, 64, log=True)
    found = [logged.at(share) for share in (0.0, *SHARES, 1 - 2**-53)]
    assert set(found) >= {1, 2, 64}
    assert max(found) == 64
    assert sum(value < 8 for value in found) == pytest.approx(500, abs=20)
    assert all(-2 <= Dimension("u", "uniform", -2, 3).at(share) < 3 for share in SHARES)


def test_a_normal_distribution_has_its_mean_and_ends_at_three_deviations() -> None:
    normal = Dimension("n", "normal", mean=3.0, sd=0.5)
    drawn = [normal.at(share) for share in SHARES]
    assert fmean(drawn) == pytest.approx(3.0, abs=1e-6)
    assert stdev(drawn) == pytest.approx(0.49, abs=0.02)
    low, high = normal.corners()
    assert (low, high) == (1.5, 4.5)
    assert normal.at(0.0) == pytest.approx(low)
    assert low - 1e-9 <= min(drawn) < max(drawn) <= high
    assert normal.has(4.4)
    assert not normal.has(4.6)


def test_choices_are_drawn_equally_often() -> None:
    choice = Dimension("c", "choice", values=(1, "auto", [2]))
    generator = random.Random(0)
    drawn = [choice.at(generator.random()) for _ in range(300)]
    assert all(70 < drawn.count(value) < 130 for value in choice.values)


def test_what_a_page_shows_of_a_dimension_can_be_written_as_json() -> None:
    margin = Dimension("m", "uniform", 0.1, 0.2, when={"loss.kind": ("a",)})
    assert margin.described() == {
        "name": "m",
        "kind": "uniform",
        "log": False,
        "low": 0.1,
        "high": 0.2,
        "when": {"loss.kind": ["a"]},
    }
    assert Dimension("c", "choice", values=([], ["x"])).described()["values"] == [[], ["x"]]
