import itertools
import math
import random

import pytest

from apdist.training.sweeps.dimension import Dimension
from apdist.training.sweeps.searchers import LARGEST_GRID, Params, Told, at_random, draw, grid

RATE = Dimension("rate", "loguniform", 1e-4, 1e-1)
KIND = Dimension("kind", "choice", values=("a", "b"))
MARGIN = Dimension("margin", "choice", values=(1, 2, 3), when={"kind": ("b",)})
WHOLE = Dimension("whole", "int", 1, 3)


def search(searcher: str, dimensions: list[Dimension], num: int, seed: int = 0) -> list[Params]:
    """What is drawn, each setting being told as better the nearer its rate is to 0.01."""
    told: list[Told] = []
    for _ in range(num):
        params = draw(searcher, dimensions, seed, told)
        if params is None:
            break
        near = -abs(math.log10(params.get("rate", 1)) + 2)
        told.append(Told(params, (near - (params.get("kind") == "a"),)))
    return [setting.params for setting in told]


@pytest.mark.parametrize("searcher", ["random", "tpe"])
def test_draws_depend_on_the_seed_and_on_what_is_told_and_on_nothing_else(searcher: str) -> None:
    if searcher == "tpe":
        pytest.importorskip("optuna")
    found = search(searcher, [RATE, KIND, MARGIN], 13)
    assert found == search(searcher, [RATE, KIND, MARGIN], 13)
    assert found != search(searcher, [RATE, KIND, MARGIN], 13, seed=1)
    assert all(("margin" in params) == (params["kind"] == "b") for params in found)


def test_tpe_comes_nearer_to_a_planted_optimum_than_where_it_began() -> None:
    pytest.importorskip("optuna")
    found = search("tpe", [RATE, KIND, Dimension("whole", "int", 1, 64, log=True)], 24)
    late = found[12:]
    assert sum(params["kind"] == "b" for params in late) > 8
    assert sum(1e-3 < params["rate"] < 1e-1 for params in late) > 8


def test_tpe_takes_two_objectives() -> None:
    pytest.importorskip("optuna")
    told = [Told({"rate": 10**-k, "kind": "a"}, (k, -k)) for k in (1, 2, 3, 4)] * 3
    assert set(draw("tpe", [RATE, KIND], 0, told) or {}) == {"rate", "kind"}


def test_no_setting_is_drawn_twice_and_a_space_comes_to_its_end() -> None:
    found = search("random", [KIND, MARGIN], 20)
    assert sorted(map(str, found)) == sorted(map(str, grid([KIND, MARGIN])))
    assert len(found) == 4


def test_a_grid_is_gone_through_in_order_after_what_was_tried() -> None:
    every = [{"kind": k, "whole": w} for k, w in itertools.product("ab", (1, 2, 3))]
    assert search("grid", [KIND, WHOLE], 20) == every
    told = [Told(every[2])]
    assert draw("grid", [KIND, WHOLE], 0, told) == every[0]
    assert draw("grid", [KIND, WHOLE], 0, [*told, Told(every[0])]) == every[1]
    assert len(list(grid([KIND, MARGIN]))) == 4


def test_dimensions_of_a_grid_take_their_values_equally_often_beside_drawn_ones() -> None:
    dimensions = [Dimension("g", "grid", values=(1, 2)), Dimension("h", "grid", values=(1, 2, 3))]
    found = [at_random([RATE, *dimensions], random.Random(n), n) for n in range(12)]
    pairs = [(params["g"], params["h"]) for params in found]
    assert {pair: pairs.count(pair) for pair in pairs} == dict.fromkeys(
        itertools.product((1, 2), (1, 2, 3)), 2
    )
    assert len({params["rate"] for params in found}) == 12


def test_a_grid_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="rate is loguniform; give it a choice"):
        draw("grid", [RATE], 0, [])
    with pytest.raises(ValueError, match=r"200,002 settings, expected at most 100,000"):
        draw("grid", [KIND, Dimension("w", "int", 0, LARGEST_GRID)], 0, [])
