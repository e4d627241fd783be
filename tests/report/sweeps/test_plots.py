"""Slices, repeats and the front in pixels."""

from __future__ import annotations

from apdist.report.sweeps.axes import axes_of
from apdist.report.sweeps.plots import about, front_plot, repeats_plot, slices
from apdist.report.sweeps.settings import objectives_of, pareto, settings_of
from tests.report.sweeps.records import forty, sweep, trial


def test_a_slice_has_a_point_for_each_setting_that_has_the_parameter() -> None:
    record = forty()
    settings = settings_of(record)
    plots = slices(settings, axes_of(record), objectives_of(record)[0], record.best or 0)
    by_name = {plot.title: plot for plot in plots}
    rate, margin = by_name["training.learning_rate"], by_name["loss.margin"]
    assert len(rate.spots) == 39
    having = sum("loss.margin" in setting.params for setting in settings if setting.values)
    assert len(margin.spots) == having
    assert margin.note == f"linear axis; {39 - having} settings do not have it"
    assert rate.y_ticks == margin.y_ticks
    assert [spot.trial for spot in rate.spots if spot.look == "best"] == [record.best]
    best = next(spot for spot in rate.spots if spot.look == "best")
    assert best.y == min(spot.y for spot in rate.spots)
    assert {spot.look for spot in rate.spots} == {
        *("best", "finished", "stopped", "failed", "running")
    }


def test_one_setting_has_no_slices() -> None:
    record = sweep(trial())
    assert slices(settings_of(record), axes_of(record), objectives_of(record)[0], 0) == []


def test_long_categories_are_cut_so_that_their_names_do_not_overlap() -> None:
    names = [f"{letter}{'x' * 30}" for letter in "abcdef"]
    trials = [trial(n, params={"loss.kind": name}) for n, name in enumerate(names)]
    record = sweep(*trials, space=[])
    (plot,) = slices(settings_of(record), axes_of(record), objectives_of(record)[0], 0)
    assert len(plot.x_ticks) == 6
    assert all(len(text) < 9 for _, text in plot.x_ticks)


def test_repeats_are_points_around_their_mean() -> None:
    trials = [
        trial(number, values=(value,), setting=number // 3, repeat=number % 3)
        for number, value in enumerate((0.4, 0.5, 0.6, 0.3, 0.3, 0.3))
    ]
    plot = repeats_plot(settings_of(sweep(*trials)), 0)
    assert plot
    xs = [spot.x for spot in plot.spots]
    assert xs[:3] == [xs[0]] * 3
    assert plot.bars[0][2] == plot.spots[1].y
    assert repeats_plot(settings_of(sweep(trial())), 0) is None


def test_the_front_is_a_line_of_steps_through_its_points() -> None:
    dims = {0: 64, 1: 128, 2: 256}
    values = {0: (0.5,), 1: (0.4,), 2: (0.7,)}
    trials = [trial(n, values=values[n], params={"model.dim": dims[n]}) for n in dims]
    record = sweep(*trials, objectives=["map", "-model.dim"])
    objectives = objectives_of(record)
    plot = front_plot(pareto(settings_of(record), objectives), objectives, 2)
    assert {spot.trial: spot.look for spot in plot.spots} == {0: "front", 1: "beaten", 2: "best"}
    small, large = (spot for spot in plot.spots if spot.look != "beaten")
    small, large = sorted((small, large))
    # Who wants 200 dimensions at most has what 64 give.
    assert plot.path == f"{small.x},{small.y} {large.x},{small.y} {large.x},{large.y}"


def test_a_setting_is_told_with_its_spread_and_how_it_ended() -> None:
    (setting,) = settings_of(sweep(trial(state="stopped")))
    (objective,) = objectives_of(sweep())
    assert about(setting, objective) == (
        "calm-otter-0: mAP 0.5000, stopped at step 120; training.learning_rate 0.01, loss.kind ap"
    )
