"""A folder as the Hugging Face hub has models, and how it is brought there."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from PIL import Image

from apdist.config.extras import install
from apdist.data import storage
from apdist.export.card import Said, card
from apdist.export.contents import Export
from apdist.export.parity import Parity
from apdist.export.tracing import first_line
from apdist.model.kept_whitenings import keep_whitening
from apdist.model.pretrained import DESCRIPTION_NAME, WEIGHTS_NAME
from apdist.model.whitening import Whitening
from apdist.training.run_folder.runs import Run

CARD, CONFIG, PREPROCESSOR = "README.md", "config.json", "preprocessor_config.json"
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")


def refuse_words(license: str, repo: str) -> None:  # noqa: A002
    """Raise unless the hub could take both, or they are empty.

    Raises:
        ValueError: it could not, or its client is missing.
    """
    if license and not _LICENSE.fullmatch(license):
        raise ValueError(
            f"--license: expected a name that the hub has, in small letters, as apache-2.0, "
            f"cc-by-nc-4.0 or other; got {license!r}"
        )
    if repo and not _REPO.fullmatch(repo):
        raise ValueError(f"--push: expected OWNER/NAME, as my-team/groceries; got {repo!r}")
    if repo and importlib.util.find_spec("huggingface_hub") is None:
        raise ValueError(f"--push needs huggingface_hub, not installed here: {install('hub')}")


def write_hub_files(
    run: Run,
    export: Export,
    parity: Parity,
    folder: Path,
    said: Said,
    whitening: Whitening | None = None,
) -> None:
    """Write all beside model.onnx: weights, descriptions, the preprocessing and the card.

    Args:
        run: whose model it is.
        export: what was made of it.
        parity: how well that agrees.
        folder: with model.onnx already.
        said: title, licence and counts of the card.
        whitening: inside of the graph; kept beside the weights, too.
    """
    for file in (WEIGHTS_NAME, DESCRIPTION_NAME):
        (folder / file).write_bytes(storage.read_bytes(storage.join(run.uri, file)))
    if whitening is not None:
        keep_whitening(whitening, str(folder), export.describing["whiten"])
    config = {
        "model_type": "apdist",
        "architectures": ["DescriptorNet"],
        "hidden_size": export.dim,
        **export.facts(parity),
    }
    _write(folder / CONFIG, config)
    _write(folder / PREPROCESSOR, preprocessor(export))
    text = card(run, export, parity, said)
    (folder / CARD).write_text(text, encoding="utf-8")


def preprocessor(export: Export) -> dict[str, Any]:
    """How pixels are made, with the names that transformers has; model.onnx does it itself."""
    fit, traits = export.fit, export.network.traits
    crops = fit.resize == "crop"
    found: dict[str, Any] = {
        "do_resize": True,
        "size": {"shortest_edge" if crops else "longest_edge": fit.side},
        "resample": int(Image.Resampling[fit.interpolation.upper()]),
        "do_center_crop": crops,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(traits.mean),
        "image_std": list(traits.std),
        "apdist": {"resize": fit.resize, "side": fit.side, "multiple": fit.multiple},
    }
    if crops:
        found["crop_size"] = {"height": fit.side, "width": fit.side}
    return found


def push(folder: Path, repo: str, api: Any = None) -> str:
    """Upload ``folder`` to ``repo``, private where it is new; returns the address.

    Args:
        folder: of `write_hub_files`.
        repo: OWNER/NAME.
        api: of huggingface_hub; None: made, with the token that `hf auth login` left.

    Raises:
        ValueError: the hub does not take it.
    """
    try:
        if api is None:
            from huggingface_hub import HfApi

            api = HfApi()
        api.create_repo(repo, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=str(folder), commit_message="Exported by apdist"
        )
    except Exception as error:  # of the client, of the network, of the hub
        raise ValueError(
            f"the hub does not take {repo} ({first_line(error)}); the folder is complete, look at "
            f"`hf auth whoami`, then: hf upload {repo} {folder}"
        ) from error
    return f"https://huggingface.co/{repo}"


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
