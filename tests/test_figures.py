"""The tables of figures: what they take from a step or from scores, and who reads them."""

from dataclasses import replace

import pytest
import torch

from apdist.config.loss import LossOptions
from apdist.data.loading.telemetry import StreamFigures
from apdist.figures import (
    EVALUATION,
    JUDGED,
    STEP,
    MeasuredStep,
    Seen,
    followed,
    logged,
    measure,
    texts,
)
from apdist.loss import Diagnostics
from apdist.report.curves import evaluation_charts, training_charts
from apdist.report.key_figures import key_figures
from apdist.retrieval.metrics import RetrievalScores, score_labelled
from apdist.retrieval.protocols.scores import FIGURES
from apdist.training.step.results import StageSeconds, StepResult
from apdist_verbs.measure.labelled import comparison_rows

STREAM = StreamFigures(
    num_images=8,
    num_bytes=4_000_000,
    read_s=0.1,
    decode_s=0.2,
    waited_s=0.3,
    num_ready=4,
    num_retries=5,
    num_replaced=6,
    num_hits=7,
    num_misses=8,
)


def result(loss: float, positive: list[float]) -> StepResult:
    return StepResult(
        loss=loss,
        listwise_loss=loss,
        term_losses=(),
        average_precision=torch.zeros(0),
        diagnostics=Diagnostics(
            num_queries=4,
            num_lone_queries=1,
            positive_histogram=torch.tensor(positive, dtype=torch.float64),
            negative_histogram=torch.tensor([0.0, 2.0], dtype=torch.float64),
            wrong_sign_share=loss / 2,
        ),
        seconds=StageSeconds(1.0, 0.25, 2.0, 3.0, 0.5),
        num_bytes=500_000,
    )


def step() -> MeasuredStep:
    """Of two batches; two bins, with centres 1 and -1."""
    return MeasuredStep(
        results=[result(0.25, [3.0, 1.0]), result(0.75, [1.0, 1.0])],
        stream=STREAM,
        num_replaced=9,
        num_images=64,
        seconds=2.0,
        stalled_s=0.25,
        device_peak_mib=0.0,
        host_peak_mib=64.0,
        learning_rate=0.125,
        bins=LossOptions(num_bins=2),
    )


def scores() -> RetrievalScores:
    points = torch.nn.functional.normalize(torch.randn(60, 4, generator=torch.manual_seed(1)))
    return score_labelled(points, torch.arange(60) // 4)


def test_a_step_is_logged_by_these_keys_with_means_and_sums_over_its_batches() -> None:
    expected = {
        "seconds": 2.0,
        "loss": 0.5,
        "binned_map": 0.5,
        "images_per_s": 32.0,
        "learning_rate": 0.125,
        "describe_s": 2.0,
        "score_s": 4.0,
        "backprop_s": 6.0,
        "exchange_s": 1.5,
        "stalled_s": 0.25,
        "host_peak_mib": 64.0,
        "lone_queries": 2,
        "megabytes_received": 1.0,
        "wrong_sign_share": 0.25,
        "positive_similarity": 0.25,
        "negative_similarity": -1.0,
        "waited_s": 0.3,
        "replaced_images": 9,
        "read_mb_per_s": 2.0,
        "read_s": 0.1,
        "decode_s": 0.2,
        "read_retries": 5,
        "steps_ready": 4,
        "cache_hits": 7,
        "cache_misses": 8,
    }
    assert logged(STEP, step()) == expected


def test_the_binned_map_of_a_sum_is_that_of_its_listwise_term() -> None:
    results = [replace(r, loss=9.0, term_losses=(r.loss, 2.0)) for r in step().results]
    found = replace(step(), results=results)
    figures = logged(STEP, found)
    assert (figures["loss"], figures["binned_map"]) == (9.0, 0.5)
    assert found.terms(["ap", "pml:X"]) == {"loss_ap": 0.5, "loss_pml_X": 2.0}
    assert step().terms([]) == {}


def test_another_loss_has_no_figures_of_bins() -> None:
    of_bins = {"binned_map", "wrong_sign_share"}
    left = logged(STEP, replace(step(), bins=None)).keys()
    assert logged(STEP, step()).keys() - left == of_bins
    assert texts(STEP, logged(STEP, replace(step(), bins=None))) == ["loss 0.5000", "32 images/s"]


def test_a_step_without_negatives_has_no_similarity_of_them() -> None:
    lone = result(0.5, [1.0, 1.0])
    lone.diagnostics.negative_histogram.zero_()
    keys = logged(STEP, replace(step(), results=[lone])).keys()
    assert "positive_similarity" in keys
    assert "negative_similarity" not in keys


def test_an_evaluation_is_logged_by_these_keys() -> None:
    keys = ["map", "recall_at_1", "recall_at_5", "recall_at_10", "r_precision", "num_queries"]
    found = logged(EVALUATION, scores())
    assert list(found) == keys
    assert found["map"] == scores().mean_average_precision
    assert found["recall_at_5"] == scores().recall_at[5]
    assert found["num_queries"] == 60


def test_scores_without_a_depth_lack_its_figure_only() -> None:
    found = logged(EVALUATION, replace(scores(), recall_at={5: 0.5}))
    assert [key for key in found if key.startswith("recall")] == ["recall_at_5"]


@pytest.mark.parametrize("table", [STEP, EVALUATION, JUDGED])
def test_no_key_and_no_label_comes_twice(table: tuple[object, ...]) -> None:
    for names in zip(*((f.key, f.label) for f in table), strict=True):  # type: ignore[attr-defined]
        assert len(set(names)) == len(table)


def test_every_figure_of_every_protocol_is_described_in_words() -> None:
    known = {figure.key for figure in JUDGED if figure.convention}
    assert known == {key for keys in FIGURES.values() for key in keys}
    shown = measure(EVALUATION, scores(), Seen.CONSOLE)
    assert all(figure.convention for figure in shown)


def test_what_is_followed_is_told_in_words() -> None:
    said = ["loss 0.5000", "binned mAP 0.500", "32 images/s"]
    assert texts(STEP, logged(STEP, step())) == said
    assert texts(EVALUATION, {"recall_at_1": 0.5, "map": 0.25}) == ["mAP 0.2500", "R@1 0.5000"]


def test_console_and_report_show_what_the_table_says_and_no_more() -> None:
    labels = {seen: [f.label for f in measure(EVALUATION, scores(), seen)] for seen in Seen}
    assert [row[0] for row in comparison_rows(None, scores())] == labels[Seen.CONSOLE]
    shown = key_figures(None, scores())
    assert [figure.name for figure in shown] == labels[Seen.REPORT]
    assert [figure.name for figure in shown if figure.is_main] == labels[Seen.CARD]
    assert [s.name for s in evaluation_charts([{"split": "test", "step": 0}])[0].series] == labels[
        Seen.LIVE
    ]
    drawn = [chart.title.lower() for chart in training_charts([])]
    assert drawn == [figure.label.lower() for figure in followed(STEP)]


def test_a_figure_that_is_followed_is_logged() -> None:
    for figure in (*followed(STEP), *followed(EVALUATION)):
        assert Seen.LOG in figure.seen, figure.key
