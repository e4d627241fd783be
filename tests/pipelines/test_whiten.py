"""``apdist whiten``: a whitening in the run's folder, by name; what would flatter is refused."""

import re
from pathlib import Path

import pytest
import torch

from apdist.config import Config, from_json, override, to_json
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.model.descriptor import DescriptorNet
from apdist.model.kept_whitenings import find_whitening, whitening_names
from apdist.model.pretrained import load_model, save_model
from apdist.retrieval.learning import learn_whitening
from apdist.training.events import Ended
from apdist.training.run_folder.runs import create_run
from apdist_verbs.__main__ import main
from tests.pictures import write_small_set


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run with a model of 6 numbers, and shards of its own."""
    write_small_set(tmp_path / "pictures")
    options = {
        "data.shards": str(tmp_path / "pictures"),
        "data.image_size": 24,
        "model.dim": 6,
        "run.output": str(tmp_path),
        "run.name": "it",
    }
    config = override(Config(), options)
    made = create_run(config, "glyphs")
    torch.manual_seed(0)
    network = DescriptorNet(config.model)
    model_id = save_model(network, network.state_dict(), network.fit(24, "crop"), made.uri)
    made.add(Ended(step=240, model_id=model_id, weights="the last"))
    return str(made.uri)


def test_whitenings_are_kept_by_name_with_what_they_were_learned_from(run: str) -> None:
    pairs = Path(run).parent / "pairs.csv"
    pairs.write_text(
        "".join(
            f"class {label}/picture {number}.png,class {label}/picture {number + 1}.png\n"
            for label in range(4, 9)
            for number in range(5)
        )
    )
    for options in (
        ["--num-components", "3", "--power", "0.5"],
        ["--kind", "supervised", "--name", "classes"],
        ["--name", "scales", "--scales", "1", "0.5", "--size", "32"],
        ["--kind", "supervised", "--pairs", str(pairs), "--name", "pairs"],
    ):
        assert main(["whiten", "--run", run, *options]) == 0
    assert whitening_names(run) == ["classes", "pairs", "pictures train", "scales"]
    model = load_model(run)
    catalogue = read_catalogue(str(Path(run).parent / "pictures")).select("train")
    found = find_whitening(run, "pictures train", 6)
    expected = learn_whitening(
        model.network, catalogue, dim=6, fit=model.fit, num_components=3, power=0.5
    )
    torch.testing.assert_close(found.projection, expected.projection)
    assert (found.learned_on, found.images) == ("pictures train", catalogue.fingerprint())
    assert (found.model, found.size, found.scales) == (model.model_id, 0, (1.0,))
    scales = find_whitening(run, "scales", 6)
    assert (scales.model, scales.size, scales.scales) == (model.model_id, 32, (1.0, 0.5))
    others = [find_whitening(run, name, 6).projection for name in ("classes", "pairs")]
    assert not torch.allclose(others[0], others[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--split", "test"], "is measured on the split 'test': whitened by what is learned from"),
        (["--num-components", "7"], "the descriptors of .* have 6 numbers; keep at most so many"),
        (["--whiten", "x"], "--whiten names a whitening, and here one is learned"),
        (["--dim", "3"], "--dim 3 cuts what a whitening gives; leave it out, --num-components"),
        (["--power", "2"], "--power must lie in"),
        (["--pairs", "x.csv"], "--pairs belongs to --kind supervised, got --kind pca"),
        (["--kind", "supervised", "--power", "0.5"], "--power belongs to --kind pca, got"),
        (["--kind", "supervised", "--pairs", "x.csv"], "x.csv"),
        (["--split", "trian"], "trian"),
    ],
)
def test_what_cannot_be_or_would_flatter_is_refused(
    run: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whiten", "--run", run, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not whitening_names(run)


def test_a_name_that_is_taken_is_refused(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whiten", "--run", run, "--name", "mine"]) == 0
    assert main(["whiten", "--run", run, "--name", "mine", "--kind", "supervised"]) == 2
    assert "has a whitening 'mine' already; give another --name" in capsys.readouterr().err


def test_a_whitening_measures_other_images_and_is_refused_on_its_own(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whiten", "--run", run, "--name", "mine"]) == 0
    assert main(["evaluate", "--run", run, "--whiten", "mine"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--run", run, "--whiten", "mine", "--split", "train"]) == 2
    message = r"the whitening was learned from the split 'train' of .*pictures \(mine\): figures"
    assert re.search(message, capsys.readouterr().err)


def test_a_whitening_is_refused_on_the_held_out_images_that_it_was_learned_with(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(run, "config.json")
    path.write_text(to_json(override(from_json(path.read_text()), {"data.holdout_share": 0.3})))
    for split, other in (("train", "holdout"), ("holdout", "train")):
        words = ["--name", split, "--num-components", "3"]
        assert main(["whiten", "--run", run, "--split", split, *words]) == 0
        assert main(["evaluate", "--run", run, "--whiten", split]) == 0
        assert "warning" not in capsys.readouterr().err
        assert main(["evaluate", "--run", run, "--whiten", split, "--split", other]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert f"learned from the split {split!r} of " in line
        assert f"which shares images with {other!r} ({split}): figures on" in line


def test_whoever_learns_from_what_a_run_is_measured_on_in_part_is_told(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(run, "config.json")
    held_out = {"data.holdout_share": 0.3, "data.eval_split": "holdout"}
    path.write_text(to_json(override(from_json(path.read_text()), held_out)))
    assert main(["whiten", "--run", run, "--num-components", "3"]) == 0
    assert "'holdout', which shares images with 'train': `apdist evaluate` refuses" in (
        capsys.readouterr().err
    )


def test_too_few_images_are_told_with_the_option_that_keeps_fewer_axes(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_small_set(Path(run).parent / "few", num_classes=5, images_per_class=2)
    assert main(["whiten", "--run", run, "--shards", str(Path(run).parent / "few")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    said = r"of \d images vary along (\d) of 6 dimensions; .* fewer: --num-components (\d) or less"
    found = re.search(said, line)
    assert found
    assert found[1] == found[2]


def test_a_whitening_of_another_model_is_refused_and_another_way_is_told(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--name", "mine", "--scales", "1", "0.5"]
    assert main(["whiten", "--run", run, *words]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--run", run, "--whiten", "mine", "--scales", "1", "0.5"]) == 0
    assert not capsys.readouterr().err
    assert main(["evaluate", "--run", run, "--whiten", "mine", "--size", "32"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        "'mine' was learned with size as the run measures (here 32), scales 1 0.5 (here 1)" in line
    )
    network = DescriptorNet(load_model(run).network.config)
    save_model(network, network.state_dict(), network.fit(24, "crop"), run)
    other = str(Path(run, "whitening/mine.safetensors"))
    for verb in (["evaluate"], ["index"], ["extract", "--out", str(Path(run, "tables"))]):
        assert main([*verb, "--run", run, "--whiten", other]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert re.search(
            r"'mine' was learned with model \w+, and this one is .*apdist whiten", line
        )
    assert main(["export", run, "--to", "torch", "--whiten", other]) == 2
    assert "was learned with model" in capsys.readouterr().err
