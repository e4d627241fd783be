"""Events as classes and as JSON objects; what is refused where it is made and where it is read."""

import json
from dataclasses import replace
from typing import Any

import pytest

from apdist.training.events import (
    KINDS,
    CheckpointWritten,
    ChunksResized,
    Ended,
    Evaluated,
    Event,
    Failed,
    MachineSampled,
    Noticed,
    PhaseBegan,
    Restarted,
    SetMeasured,
    Similarities,
    Started,
    StepDone,
    Stopping,
    TrialEnded,
    TrialStarted,
    Warned,
    WorkersFailed,
    from_json,
    to_json,
)

SAMPLES: list[Event] = [
    PhaseBegan(name="loading weights", time_ms=1700000000000),
    Started(
        step=4,
        num_images=48,
        num_classes=8,
        num_lone_classes=0,
        num_capped_classes=0,
        steps_per_epoch=1,
        chunk_size=128,
        chunk_size_reason="an image takes 2 MiB",
        activations="store",
        activations_reason="it fits",
        gathered_once=False,
        watched="test",
        history=["000000-abc.jsonl"],
        hosts=["here", "there"],
    ),
    StepDone(step=5, figures={"loss": 0.5, "images_per_s": 900.0, "lone_queries": 0}),
    Evaluated(
        step=5,
        split="test",
        figures={"map": 0.25, "recall_at_1": 0.5, "r_precision": 0.2},
        seconds=0.1,
    ),
    SetMeasured(
        step=5,
        name="roxford",
        protocol="revisited",
        data="abc",
        num_queries=70,
        figures={"medium/map_trapezoid": 0.5, "medium/precision_at_1": 0.75},
        seconds=0.2,
        of_step=3,
    ),
    Similarities(step=5, centres=[1.0, -1.0], positive=[1.0, 0.0], negative=[0.5, 0.5]),
    ChunksResized(chunk_size=64),
    Noticed(step=5, topic="falling", text="mAP falls"),
    Restarted(
        step=5,
        time_ms=1700000009000,
        cause="worker 1 on there: its process died",
        happened_ms=1700000004000,
        seconds_lost=12.4,
        restarts_left=2,
        num_workers=3,
        num_before=4,
    ),
    WorkersFailed(ranks=[1], cause="its process died", time_ms=1700000004000, hosts=["there"]),
    CheckpointWritten(step=5, uri="runs/a/checkpoints/step-000005"),
    Ended(step=6, model_id="abc", weights="the last"),
    Warned(text="worker 0: slow"),
    Failed(text="no such file"),
    Stopping(),
    MachineSampled(
        host="here", figures={"cpu_utilization_percentage": 50.0, "gpu_0_x": 1.0}, time_ms=1
    ),
    TrialStarted(params={"training.learning_rate": 0.1}, lease=1),
    TrialEnded(attempt="ab12", failure=""),
]
"""One of each kind."""

MEASURED = {"split": "test", "of_step": -1, "blend": 1.0, "weights": ""}
OLD_LINES = [
    '{"kind": "evaluation", "step": 0, "time_ms": 17, "split": "test", "map": 0.48, '
    '"r_precision": 0.36, "num_queries": 24.0, "recall_at_1": 0.58, "recall_at_5": 0.83, '
    '"recall_at_10": 0.95, "seconds": 0.14, "of_step": -1, "blend": 1.0, "weights": "ab12"}',
    '{"kind": "similarities", "step": 1, "time_ms": 17, "centres": [1.0, -1.0], '
    '"positive": [0.25, 0.75], "negative": [0.0, 1.0]}',
    '{"kind": "step", "step": 1, "time_ms": 17, "seconds": 22.6, "loss": 0.82, '
    '"images_per_s": 1.4, "learning_rate": 0.002, "describe_s": 0.03, '
    '"score_s": 22.4, "backprop_s": 0.04, "lone_queries": 0, "megabytes_received": 0.0, '
    '"binned_map": 0.17, "wrong_sign_share": 0.12, "positive_similarity": 0.91, '
    '"negative_similarity": 0.9, "waited_s": 0.01, "replaced_images": 0, '
    '"read_mb_per_s": 0.002, "read_s": 0.01, "decode_s": 0.02, "read_retries": 0, '
    '"steps_ready": 0, "cache_hits": 0, "cache_misses": 0}',
    '{"kind": "end", "step": 6, "time_ms": 17, "model_id": "1f6d6a1b", '
    '"weights": "the last, after step 6", "is_early": false}',
]


def test_every_kind_comes_back_from_json() -> None:
    assert [type(event) for event in SAMPLES] == list(KINDS.values())
    assert list(KINDS) == [event.kind for event in SAMPLES]
    for event in SAMPLES:
        assert from_json(json.loads(json.dumps(to_json(event)))) == event


@pytest.mark.parametrize("line", OLD_LINES)
def test_a_line_of_an_earlier_run_is_read_and_written_as_it_was(line: str) -> None:
    assert json.dumps(to_json(from_json(json.loads(line)))) == line


def test_figures_lie_beside_the_other_fields() -> None:
    event = Evaluated(step=3, split="test", figures={"map": 0.5}, seconds=0.1)
    assert to_json(event) == {
        "kind": "evaluation",
        "step": 3,
        "time_ms": 0,
        "split": "test",
        "map": 0.5,
        "seconds": 0.1,
        "of_step": -1,
        "blend": 1.0,
        "weights": "",
    }


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (
            {"kind": "stepp", "step": 1},
            r"^expected an event of kind phase, start, step, .*; got .*stepp",
        ),
        ({"step": 1}, "expected an event of kind"),
        ({"kind": ["step"], "step": 1}, "expected an event of kind"),
        ({"kind": "step", "step": 1, "los": 0.5}, "'step' has no figure 'los'; known are: .*loss"),
        ({"kind": "step", "loss": 0.5}, "expected the event 'step' with .*'step' is missing"),
        ({"kind": "step", "step": "1"}, "step of the event 'step': expected int, got '1'"),
        ({"kind": "step", "step": True}, "step of the event 'step': expected int, got True"),
        ({"kind": "step", "step": 1.5}, "step of the event 'step': expected int, got 1.5"),
        (
            {"kind": "step", "step": 1, "loss": None},
            r"figures of the event 'step': expected dict\[str, float\], got",
        ),
        (
            {"kind": "step", "step": 1, "loss": "0.5"},
            r"figures of the event 'step': expected dict\[str, float\], got",
        ),
        ({"kind": "end", "step": 1, "model_id": "a", "at": 1}, "'end' with .*'at' is unknown"),
        (
            {"kind": "evaluation", "step": 1, "map": 0.5} | MEASURED,
            "'seconds' is missing",
        ),
        (
            {"kind": "evaluation", "step": 1, "loss": 1.0, "seconds": 1.0} | MEASURED,
            "has no figure 'loss'",
        ),
        (
            {"kind": "similarities", "step": 1, "centres": [""], "positive": [], "negative": []},
            "centres of the event 'similarities': expected",
        ),
    ],
)
def test_what_is_not_known_here_is_refused_in_one_line_where_it_is_read(
    plain: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        from_json({"time_ms": 1} | plain)
    assert "\n" not in str(refused.value)


def test_what_is_not_known_here_is_refused_where_it_is_made() -> None:
    with pytest.raises(ValueError, match="has no figure 'los'"):
        StepDone(step=1, figures={"los": 0.5})
    with pytest.raises(ValueError, match="has no figure 'mean_reciprocal_rank'"):  # not logged
        Evaluated(step=1, split="test", figures={"mean_reciprocal_rank": 0.5}, seconds=1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'txt'"):
        Warned(txt="slow")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="uri of the event 'checkpoint': expected str, got 3"):
        CheckpointWritten(step=1, uri=3)  # type: ignore[arg-type]


def test_a_failure_and_what_it_led_to_are_told_in_a_line() -> None:
    failed = WorkersFailed(ranks=[0, 2], cause="it stopped", time_ms=1, hosts=["a", "a"])
    assert str(failed) == "workers 0 and 2 on a: it stopped"
    assert str(WorkersFailed(ranks=[1], cause="it stopped", time_ms=1)) == "worker 1: it stopped"
    assert str(WorkersFailed(ranks=[], cause="resumed", time_ms=1)) == "resumed"
    restarted = Restarted(
        step=10,
        cause=str(failed),
        happened_ms=1,
        seconds_lost=12.4,
        restarts_left=1,
        num_workers=3,
        num_before=3,
    )
    assert str(restarted) == (
        "workers 0 and 2 on a: it stopped; went on from step 10, 12 s lost, "
        "1 restart left within the hour"
    )
    fewer = str(replace(restarted, num_workers=1))
    assert "went on from step 10 with 1 worker (was 3), 12 s lost" in fewer
    assert "was" not in str(replace(restarted, num_before=0))


def test_a_step_may_have_figures_of_the_terms_of_its_loss() -> None:
    step = StepDone(step=1, figures={"loss": 0.5, "loss_ap": 0.25})
    assert from_json(to_json(step)) == step
    with pytest.raises(ValueError, match="no figure 'losses'"):
        StepDone(step=1, figures={"loss": 0.5, "losses": 0.25})
    with pytest.raises(ValueError, match="no figure 'loss_ap'"):
        Evaluated(step=1, split="test", figures={"loss_ap": 0.5}, seconds=1.0)
