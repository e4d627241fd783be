"""What is inside of an export is told step by step."""

from dataclasses import replace

from apdist.data.images import Fit
from apdist.export.contents import resizing
from apdist.model.pretrained import TrainedModel
from tests.export.test_card import PARITY, export_of


def test_steps_and_shapes(model: TrainedModel) -> None:
    export = replace(
        export_of(model), describing={"scales": (1.0, 0.5), "whiten": "own"}, shape=(48, 64)
    )
    facts = export.facts(PARITY)
    assert facts["input"]["shape"] == ["n", 48, 64, 3]
    assert facts["output"]["shape"] == ["n", 8]
    steps = " / ".join(facts["inside"])
    assert "scales 1 0.5" in steps
    assert steps.endswith("linear layer to 8 / whitening 'own' / L2 norm")
    assert "parity" not in export.facts()
    assert export.for_metadata()["apdist.model_id"] == model.model_id


def test_resizing_in_words() -> None:
    fit = Fit(side=224, resize="shrink", interpolation="bilinear", multiple=14)
    assert resizing(fit) == (
        "the whole image, its longer side to 224 pixels by Pillow's bilinear, smaller images as "
        "they are, sides to multiples of 14"
    )
