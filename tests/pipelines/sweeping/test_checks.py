"""What cannot be tried, by the small shards of the tests: 48 training images of 8 classes."""

import pytest

from apdist.config import Config, override
from apdist.training.sweeps.space import parsed_space
from apdist_verbs.sweeping.checks import refuse_unfit, refuse_unfit_networks, refuse_unfit_space


def space(name: str, values: str) -> str:
    return f'["{name}"]\ndistribution = "choice"\nvalues = {values}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (space("training.batch_size", "[32, 4096]"), "batch"),
        (space("data.classes_per_batch", "[8, 9]"), "classes_per_batch"),
        (space("data.train_split", '["train", "tran"]'), "'tran'"),
        (space("model.dim", "[16, 500]") + space("model.init", '["pca"]'), "model.init pca"),
        (space("loss.matryoshka", "[[], [4], [4, 500]]"), "loss.matryoshka 500 is not below"),
    ],
)
def test_a_space_with_one_choice_that_cannot_be_trained_is_refused(
    small_config: Config, text: str, message: str
) -> None:
    config = override(small_config, {"model.init": "pca"} if "pca" in text else {})
    with pytest.raises(ValueError, match=message):
        refuse_unfit_space(parsed_space(text, config, "the space"), config)


def test_values_that_fit_alone_and_not_together_are_seen_when_they_are_drawn(
    small_config: Config,
) -> None:
    text = space("data.classes_per_batch", "[0, 8]") + space("data.group_size", "[4, 2]")
    refuse_unfit_space(parsed_space(text, small_config, "the space"), small_config)
    both = {"data.classes_per_batch": 8, "data.group_size": 2}
    with pytest.raises(ValueError, match="batch"):
        refuse_unfit(override(small_config, both))


def test_a_size_that_is_learned_from_the_network_alone_is_not_refused_before_it_is_built(
    small_config: Config,
) -> None:
    config = override(small_config, {"model.dim": 0})
    text = space("loss.matryoshka", "[[], [4, 500]]")
    refuse_unfit_space(parsed_space(text, config, "the space"), config)
    refuse_unfit(config)


def test_a_pattern_that_names_nothing_in_the_network_is_refused(small_config: Config) -> None:
    text = space("training.freeze", '[[], ["backbon"]]') + space("loss.num_bins", "[10]")
    dimensions = parsed_space(text, small_config, "the space")
    with pytest.raises(ValueError, match="named 'backbon'"):
        refuse_unfit_networks(dimensions, small_config)
    refuse_unfit_networks(dimensions[1:], small_config)
