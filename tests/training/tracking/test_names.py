"""Names of figures in MLflow."""

from apdist.figures import STEP, logged_keys
from apdist.training.events import StepDone
from apdist.training.tracking import names


def test_every_figure_of_a_step_is_in_the_section_of_its_kind() -> None:
    figures = dict.fromkeys(logged_keys(STEP), 1.0) | {"loss_ap": 1.0}
    found = names.of_step(StepDone(step=1, figures=figures))
    assert len(found) == len(figures)
    assert {name.split("/")[1] for name in found if name.startswith("train/")} == {
        *("loss", "loss_ap", "binned_map", "learning_rate", "lone_queries", "wrong_sign_share"),
        *("positive_similarity", "negative_similarity"),
    }
    assert {name.split("/")[0] for name in found} == {"train", "speed", "reading"}
    assert figures.keys() >= names.SPEED | names.READING
