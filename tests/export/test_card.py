"""The card says what was measured, of what and how, and what is not known."""

from dataclasses import replace

from apdist.export.card import Said, card, plain
from apdist.export.contents import Export
from apdist.export.parity import Parity
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import TrainedModel
from apdist.training.events import Evaluated, SetMeasured
from apdist.training.run_folder.runs import Run

PARITY = Parity(num_images=3, images="drawn pictures", of_pixels=1, of_files=0.99991)


def export_of(model: TrainedModel) -> Export:
    assert isinstance(model.network, DescriptorNet)
    return Export(
        model_id=model.model_id, network=model.network, fit=model.fit, dim=8, describing={}
    )


def evaluated(step: int, value: float) -> Evaluated:
    figures = {"map": value, "recall_at_1": value, "num_queries": 12.0}
    return Evaluated(step=step, split="test", figures=figures, seconds=1.0)


def test_figures_stand_with_what_they_count_and_what_was_before(
    run: Run, model: TrainedModel
) -> None:
    measured = SetMeasured(
        step=240,
        name="other",
        protocol="labelled",
        data="hash",
        num_queries=7,
        figures={"map": 0.25},
        seconds=1.0,
    )
    run.history = [evaluated(0, 0.125), *run.history, evaluated(240, 0.75), measured]
    counts = {"train": (1234, 56), "test": (12, 3)}
    said = Said(name="Mine", license="mit", counts=counts, num_shared=2)
    text = card(run, export_of(model), PARITY, said)
    for expected in (
        "license: mit",
        "# Mine",
        "| mAP | 0.1250 | 0.7500 | precision at each positive, mean over all positives (sum rule)",
        "12 images, each a query",
        "| other | labelled | 7 | mAP | 0.2500 |",
        "1,234 images of 56 classes",
        "Of the split 'test' 2 of its classes were trained on",
        "0.999910 of files, on 3 drawn pictures",
        f"Model id `{model.model_id}`",
        "| started from | random weights |",
        "the square in the middle to 32 x 32 pixels",
    ):
        assert expected in text, expected
    assert "- Images: shards" in text
    assert run.config.data.shards not in text  # where a person keeps images is not told


def test_of_a_split_that_was_measured_at_the_end_alone_nothing_is_said_of_before(
    run: Run, model: TrainedModel
) -> None:
    run.history = [*run.history, evaluated(240, 0.75)]
    text = card(run, export_of(model), PARITY, Said(name="it"))
    assert "of its label. After step 240." in text
    assert "| | after | what it counts |\n|---|---:|---|\n| mAP | 0.7500 | precision" in text


def test_what_is_not_known_is_said(run: Run, model: TrainedModel) -> None:
    describing = {"scales": (1.0, 0.5), "whiten": "own"}
    export = replace(export_of(model), describing=describing, shape=(48, 64))
    text = card(run, export, PARITY, Said(name="it"))
    assert "No licence was said" in text
    assert "license:" not in text
    assert "Nothing was measured in this run" in text
    assert 'convert("RGB").resize((64, 48))' in text
    assert "draft" not in text
    alone = f"the network alone: {model.network.dim} numbers of model id `{model.model_id}`"
    assert alone in text
    assert "the network alone" not in card(run, export_of(model), PARITY, Said(name="it"))
    run.history = [evaluated(0, 0.1), *run.history]
    text = card(run, export, PARITY, Said(name="it"))
    assert "without the options of this export" in text


def test_names_of_people_are_no_markup() -> None:
    assert plain("<script>\n|`a`_b*") == "&lt;script>  \\|'a'\\_b\\*".replace("  ", " ")
