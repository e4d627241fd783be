"""A set like revisited Oxford, drawn: places with a glyph in each, whose box is known.

Easy positives show the glyph of the query at its own place, hard ones at other places; junk shows
it too small. Wrong are other glyphs at other places.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from apdist.config import Config, DataConfig, ModelConfig, RunConfig, TrackingConfig
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.data.ground_truth.ground_truth_file import NAME, write_ground_truth
from apdist.data.images import Fit
from apdist.data.preparing.glyphs import Glyph, draw_glyph
from apdist.data.preparing.shards import Encoded, Item, write_shards
from apdist.model.pretrained import build_model, save_model
from apdist.training.events import Ended
from apdist.training.run_folder.runs import Run, create_run
from tests.pictures import encoded, refuse

SIDE, TILE, NUM_PLACES = 64, 26, 8
LETTERS = "ABDFGJKM"


def scene(place: int, letter: str, seed: int, tile: int = TILE) -> tuple[Image.Image, Any]:
    """A picture of the place with the letter somewhere, and the letter's box."""
    random = np.random.default_rng([place, seed])
    coarse = np.random.default_rng(place).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((SIDE + 9, SIDE), Image.Resampling.BICUBIC)
    glyph = Glyph(letter, letter, ("DejaVuSans",))
    left, top = (int(n) for n in random.integers(0, SIDE - tile, 2))
    drawn = draw_glyph(glyph, "DejaVuSans", size=tile, seed=LETTERS.index(letter))
    picture.paste(drawn, (left, top))
    return picture, (float(left), float(top), float(left + tile), float(top + tile))


def write_scenes(root: Path) -> tuple[Catalogue, GroundTruth]:
    """Shards with the splits query and database, and the ground truth that belongs to them."""
    pictures: dict[str, Image.Image] = {}
    queries = []
    for place, letter in enumerate(LETTERS):
        pictures[f"q{place}"], box = scene(place, letter, 0)
        lists: dict[str, list[str]] = {"easy": [], "hard": [], "junk": []}
        for n in range(3):
            others = {
                "easy": scene(place, letter, 1 + n),
                "hard": scene((place + n + 1) % NUM_PLACES + 20, letter, 30 + n),
                "junk": scene(place, letter, 60 + n, tile=8),
            }
            for kind, (picture, _) in others.items():
                pictures[f"{kind}{place}{n}"] = picture
                lists[kind].append(f"{kind}{place}{n}")
        judged: Any = {kind: tuple(keys) for kind, keys in lists.items()}
        queries.append(JudgedQuery(key=f"q{place}", box=box, **judged))
    items = [
        Item(key, 0, "", "query" if key.startswith("q") else "database", content=key)
        for key in pictures
    ]
    catalogue = write_shards(
        items,
        lambda key: Encoded(encoded(pictures[key]), "png", *pictures[key].size),
        str(root),
        shard_bytes=200_000,
        on_refused=refuse,
    )
    truth = GroundTruth(protocol="revisited", queries=tuple(queries))
    write_ground_truth(str(root / NAME), truth)
    return catalogue, truth


def untrained_run(root: Path, shards: Path) -> Run:
    """A run that has come to its end, of a network with random weights."""
    config = Config(
        data=DataConfig(shards=str(shards), image_size=48, train_split="database"),
        model=ModelConfig(dim=0),
        tracking=TrackingConfig(enabled=False),
        run=RunConfig(output=str(root), name="untrained"),
    )
    run = create_run(config, "test")
    torch.manual_seed(3)
    network = build_model(config.model).eval()
    fit = Fit(side=48, resize="longest")
    model_id = save_model(network, network.state_dict(), fit, run.uri)
    run.add(Ended(step=0, model_id=model_id, weights="the last"))
    return run
