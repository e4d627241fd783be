"""``apdist search QUERY``: the images of an index that look like a picture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Annotated

from apdist.data import storage
from apdist.data.storage.local import hint
from apdist.training.run_folder.runs import Run
from apdist_verbs.terminal.console import table
from apdist_verbs.terminal.fields import Argument, positional, shown_default
from apdist_verbs.terminal.next_step import near, say_next
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase


@dataclass(frozen=True, kw_only=True)
class Options:
    """Find the images that look like a picture."""

    query: Annotated[Path, positional("QUERY")]
    """Picture to search for, in any format that Pillow reads."""
    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run whose model describes the picture."""
    index: Annotated[str, shown_default("`index` in the run's folder")] = ""
    """Folder of the index."""
    k: Annotated[int, Argument(short="-k")] = 10
    """Results."""

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"--k must be at least 1, got {self.k}")


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist search")
    if not options.query.is_file():
        reason = "is a folder; give one picture"
        if not options.query.is_dir():
            reason = f"does not exist{hint(options.query) or '; check the path'}"
        raise ValueError(f"the query image {options.query} {reason}")
    with phase("loading"):
        from apdist_verbs.described import find_run

    run = find_run(options.run)
    search(run, options)
    say_next("see rankings as pictures", "report", "--run", near(run.uri))
    return 0


def search(run: Run, options: Options) -> None:
    """Search and print a table of results."""
    import torch

    from apdist.data.images import ImageError, evaluation_image
    from apdist.retrieval.index import load_index
    from apdist_verbs.described import trained_model
    from apdist_verbs.making import PLAIN, as_noted, noted
    from apdist_verbs.terminal.devices import best_device

    folder = options.index or storage.join(run.uri, "index")
    if not os.path.isdir(folder):
        raise ValueError(
            f"no index at {folder}; build one with: apdist index --run {quote(near(run.uri))}"
        )
    with phase("loading the index"):
        index = load_index(folder, model_id=None)
    # As its images were described, so is the query.
    model = trained_model(run, as_noted(index.settings.get("making", noted(PLAIN))))
    index.refuse_model(model.model_id, folder)
    query = options.query.read_bytes()
    try:
        image = torch.from_numpy(evaluation_image(query, model.fit))
    except ImageError as error:
        raise ValueError(f"the query image {options.query} {error}") from error
    device = best_device()
    with torch.inference_mode():
        descriptor: torch.Tensor = model.network.to(device)(image[None].to(device)).cpu()
        scores, rows = index.search(descriptor, options.k)
    found = index.entries.take(rows[0].numpy()).to_pylist()
    table(
        f"{options.query} in {folder}",
        ["rank", "score", "class", "image"],
        [
            [str(i), f"{score:.4f}", str(entry["label_name"]), str(entry["source"])]
            for i, (score, entry) in enumerate(zip(scores[0].tolist(), found, strict=True), 1)
        ],
    )
