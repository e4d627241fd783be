"""A folder as the hub has models; it goes there when asked, and only then."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from apdist.export.card import Said
from apdist.export.hub_folder import preprocessor, push, refuse_words, write_hub_files
from apdist.model.kept_whitenings import find_whitening
from apdist.model.pretrained import TrainedModel, load_model
from apdist.model.whitening import Whitening
from apdist.training.run_folder.runs import Run
from tests.export.test_card import PARITY, export_of


class FakeApi:
    """What `push` uses of huggingface_hub."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.error = error

    def create_repo(self, repo: str, **options: Any) -> None:
        self.calls.append((repo, options))

    def upload_folder(self, **options: Any) -> None:
        if self.error:
            raise self.error
        self.calls.append(
            ("upload", sorted(p.name for p in Path(options["folder_path"]).iterdir()))
        )


def test_a_folder_is_a_model_of_apdist_with_its_whitening(
    run: Run, model: TrainedModel, tmp_path: Path
) -> None:
    from dataclasses import replace

    folder = tmp_path / "hub"
    folder.mkdir()
    whitening = Whitening(mean=torch.rand(8), projection=torch.rand(4, 8))
    export = replace(export_of(model), describing={"whiten": "own", "scales": [1.0]}, dim=4)
    write_hub_files(run, export, PARITY, folder, Said(name="it"), whitening)
    assert load_model(str(folder)).model_id == model.model_id
    assert torch.equal(find_whitening(str(folder), "own", 8).mean, whitening.mean)
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["model_id"]) == (4, model.model_id)
    assert config["parity"]["least_cosine_of_files"] == 0.99991
    assert "whitening 'own'" in config["inside"]


def test_pixels_are_described_by_the_names_of_transformers(model: TrainedModel) -> None:
    told = preprocessor(export_of(model))
    assert told["crop_size"] == {"height": 32, "width": 32}
    assert told["size"] == {"shortest_edge": 32}
    assert told["resample"] == 3
    assert told["image_mean"] == list(model.network.traits.mean)  # type: ignore[union-attr]


def test_it_is_uploaded_to_a_private_place(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("x")
    api = FakeApi()
    assert push(tmp_path, "team/it", api) == "https://huggingface.co/team/it"
    assert api.calls == [
        ("team/it", {"private": True, "exist_ok": True}),
        ("upload", ["README.md"]),
    ]


def test_a_hub_that_does_not_take_it_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not take team/it \(401 no token\); .* hf upload"):
        push(tmp_path, "team/it", FakeApi(RuntimeError("401 no token\nmore")))


@pytest.mark.parametrize(
    ("license_", "repo", "message"),
    [
        ("Apache 2", "", "--license: expected a name that the hub has"),
        ("mit\nx: y", "", "--license"),
        ("", "name", "--push: expected OWNER/NAME"),
        ("", "a/b/c", "--push"),
    ],
)
def test_words_that_the_hub_does_not_take_are_refused(
    license_: str, repo: str, message: str
) -> None:
    refuse_words("cc-by-nc-4.0", "my-team/groceries")
    with pytest.raises(ValueError, match=message):
        refuse_words(license_, repo)


def test_a_missing_client_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refuse_words("mit", "")
    with pytest.raises(ValueError, match="--push needs huggingface_hub, not installed here"):
        refuse_words("", "team/it")
