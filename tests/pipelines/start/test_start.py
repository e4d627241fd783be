"""Where a training starts from: presets, files of options, and options on top."""

import shlex
from pathlib import Path

import pytest

from apdist.config import Config, flatten, override, to_json
from apdist.training.run_folder.runs import create_run
from apdist_verbs.presets import preset
from apdist_verbs.start.model_check import check_model
from apdist_verbs.start.start import Options, read_start
from tests.places import ROOT


def test_any_run_can_be_repeated_from_its_folder(small_config: Config) -> None:
    run = create_run(override(small_config, {"run.name": "first"}), "glyphs")
    for file in (run.uri, f"{run.uri}/config.json"):
        name, found = read_start(["--config", file, "--training.seed", "7"])
        assert name == "glyphs"
        assert flatten(found.config) == flatten(
            override(run.config, {"training.seed": 7, "run.name": ""})
        )


def test_a_preset_alone_is_enough() -> None:
    assert read_start(["glyphs"]) == ("glyphs", Options(config=preset("glyphs")))


def test_toml_names_what_differs_from_a_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[training]\nsteps = 9\nlearning_rate = 1\n[run]\nname = "a"\n')
    name, found = read_start(["folder", f"--config={file}", "--training.steps", "11"])
    assert name == "folder"
    changed = {"training.steps": 11, "training.learning_rate": 1.0, "run.name": "a"}
    assert found.config == override(preset("folder"), changed)
    assert read_start(["--config", str(file)])[0] == "config"


def test_json_and_toml_of_the_same_options_start_the_same(tmp_path: Path) -> None:
    changes = {"loss.num_bins": 30, "training.freeze": ("backbone.*", "pooling")}
    (tmp_path / "a.json").write_text(to_json(override(Config(), changes)))
    (tmp_path / "a.toml").write_text(
        'loss.num_bins = 30\ntraining.freeze = ["backbone.*", "pooling"]\n'
    )
    found = [read_start(["--config", str(tmp_path / f"a.{kind}")])[1] for kind in ("json", "toml")]
    assert found[0].config == found[1].config == override(Config(), changes)


def commands_of(page: str) -> list[list[str]]:
    """What stands after `apdist train` in the commands of a page of docs."""
    lines = (ROOT / "docs" / page).read_text().splitlines()
    return [shlex.split(line)[2:] for line in lines if line.startswith("apdist train ")]


def test_the_commands_about_fine_tuning_are_accepted_and_name_parts_of_the_network() -> None:
    commands = commands_of("fine-tuning.md")
    assert len(commands) == 7
    for words in commands:
        _, options = read_start(words)
        if "hub:" not in " ".join(words):  # nothing is fetched here
            check_model(options.config)


def test_the_commands_about_weights_are_accepted() -> None:
    found = [read_start(words)[1].config for words in commands_of("weights.md")]
    assert [s.name for config in found for s in config.evaluation.named_sets] == [
        *("grocery", "roxford")
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "[training]\nstepz = 3\n", r"a.toml: unknown option 'training.stepz'; did you"),
        ("a.toml", "[training]\nsteps = true\n", "a.toml: training.steps must be of type int"),
        ("a.toml", "training.freeze = 'a'\n", r'training.freeze must be a list, .* write \["a"\]'),
        ("a.toml", "steps = 3\n", "a.toml: expected sections with options"),
        ("a.toml", "steps", "a.toml is no TOML"),
        ("a.json", "{", r"a.json is no JSON \(TOML ends with .toml\)"),
        ("a.json", "[" * 100_000, r"a.json is no JSON"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_start(["--config", str(tmp_path / name)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.steps", "3"], "expected `apdist train PRESET"),
        (
            ["folder", ".", "--data.shards", "x"],
            r"give pictures \(.\) or --data.shards x, not both",
        ),
        (["/tmp"], "a preset comes first: apdist train folder /tmp"),
        (["--config", "x.json", "--resume", "runs/a"], "--resume comes first, .* train --resume"),
        (["glyphs", "--resume=runs/a"], "--resume comes first"),
        (["glyphs", "--fork"], "--fork belongs to --resume: apdist train --resume RUN --fork"),
        (["glyphs", "--training.seed", "9" * 30], "--training.seed must fit 64 bits"),
    ],
)
def test_a_command_that_says_too_little_or_too_much_is_refused(
    arguments: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read_start(arguments)
