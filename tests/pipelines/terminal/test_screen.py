"""What a person sees of a training."""

from dataclasses import replace

import pytest

from apdist.training.events import Noticed, PhaseBegan, Started, StepDone
from apdist_verbs.terminal.progress import Progress
from apdist_verbs.terminal.screen import Screen
from tests.training.test_events import SAMPLES


def test_the_screen_shows_what_a_person_wants_to_know_and_decides_about_every_kind(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = Progress("training", 6)
    screen = Screen(bar)
    lines = []
    for event in SAMPLES:
        screen(event)
        lines.append(bar.line(80).replace("  0:00", ""))
    screen(Noticed(step=6, topic="falling", text="mAP still falls"))
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "going on from step 4",
        "workers: 2 on 2 hosts, no GPU",
        "chunk size: 128 images (an image takes 2 MiB)",
        "activations: store (it fits)",
        "step 5: test mAP 0.2500, R@1 0.5000, R-precision 0.2000",
        "weights of step 3: set roxford (revisited) mAP (trapezoid), medium 0.5000",
        "worker 1 on there: its process died; went on from step 5 with 3 workers (was 4), "
        "12 s lost, 2 restarts left within the hour",
        "weights: the last",
        "stopping: the workers finish their step and write a checkpoint (again to end at once)",
    ]
    assert shown.err.splitlines() == [
        "warning: step 5: mAP falls",
        "warning: worker 1 on there: its process died; starting again",
        "warning: worker 0: slow",
    ]
    assert list(dict.fromkeys(lines)) == [
        "training  0/6  loading weights",
        "training  4/6  loading weights",
        "training  5/6  loss 0.5000  900 images/s",
        "training  5/6  starting the workers again  loss 0.5000  900 images/s",
    ]
    with pytest.raises(AssertionError, match="nobody has decided"):
        screen({"kind": "step"})  # type: ignore[arg-type]


def test_it_is_said_how_many_workers_auto_came_to(capsys: pytest.CaptureFixture[str]) -> None:
    started = next(event for event in SAMPLES if isinstance(event, Started))
    begun = replace(started, step=0, hosts=["here"] * 4, numerics="float32, on NVIDIA H200")
    Screen(Progress("training", 6))(begun)
    assert capsys.readouterr().out.splitlines()[0] == "workers: 4, a GPU each"


def test_steps_that_arrive_in_a_bunch_have_the_pace_of_the_worker_that_did_them() -> None:
    bar = Progress("training", 240)
    screen = Screen(bar)
    for step in range(1, 121):
        screen(StepDone(step=step, figures={}, time_ms=1_700_000_000_000 + 50 * step))
        if step == 60:
            told = 1_700_000_000_000 + 50 * step
            screen(PhaseBegan(name="evaluating step 60", time_ms=told))
            screen(PhaseBegan(name="", time_ms=told))
    assert "20/s  6 s left" in bar.line(80)
