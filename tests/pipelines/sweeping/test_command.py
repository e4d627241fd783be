"""The command that trains a setting again, read as a person would type it."""

import shlex

from apdist.config import override
from apdist_verbs.presets import preset
from apdist_verbs.start.completing import with_absolute_paths
from apdist_verbs.start.start import Start, read_start
from apdist_verbs.sweeping.command import training_command


def test_the_command_of_the_best_trial_repeats_what_differs_from_the_preset() -> None:
    config = override(preset("glyphs"), {"training.steps": 7, "tracking.enabled": False})
    start = Start("glyphs", preset("glyphs"), ("glyphs",), "apdist sweep glyphs")
    command = training_command(start, config, {"loss.num_bins": 10, "data.shards": "/a b"})
    assert command == (
        "apdist train glyphs --data.shards '/a b' --loss.num-bins 10 --training.steps 7 "
        "--tracking.no-enabled"
    )


def test_the_command_of_the_best_trial_repeats_lists() -> None:
    given = override(preset("glyphs"), {"training.freeze": ["pooling"]})
    start = Start("glyphs", given, ("glyphs",), "apdist sweep glyphs")
    rates = ["backbone.*=0.1", "linear=2"]
    command = training_command(
        start, with_absolute_paths(given), {"training.freeze": [], "training.rates": rates}
    )
    assert command == (
        "apdist train glyphs --training.rates 'backbone.*=0.1' linear=2 --training.freeze="
    )
    words = shlex.split(command)
    _, options = read_start(words[2:])
    assert options.config == override(preset("glyphs"), {"training.rates": rates})


def test_the_command_of_the_best_trial_has_the_options_of_its_loss_alone() -> None:
    preset_ = with_absolute_paths(preset("glyphs"))
    config = override(preset_, {"loss.num_bins": 9})
    start = Start("glyphs", preset_, ("glyphs",), "apdist sweep glyphs")
    params = {"loss.kind": "triplet", "loss.margin": 0.2}
    command = training_command(start, config, params)
    assert command == "apdist train glyphs --loss.kind triplet --loss.margin 0.2"
    sums = {"loss.terms": ["ap=1", "recall_at_k=0.5"], "loss.ks": [1, 4]}
    command = training_command(start, config, sums)
    expected = "--loss.terms ap=1 recall_at_k=0.5 --loss.num-bins 9 --loss.ks 1 4"
    assert command == f"apdist train glyphs {expected}"
    typed = read_start(shlex.split(command)[2:])[1].config.loss
    assert typed == override(config, sums).loss
    begun = Start("glyphs", override(config, sums), ("glyphs",), "apdist sweep glyphs")
    command = training_command(begun, begun.config, {"loss.terms": ["ap=1"], "loss.ks": []})
    assert command == "apdist train glyphs --loss.terms ap=1"
    begun = Start("glyphs", override(config, {"loss.terms": ["ap=1"]}), ("glyphs",), "")
    command = training_command(begun, begun.config, {"loss.terms": []})
    assert command == "apdist train glyphs --loss.terms="
