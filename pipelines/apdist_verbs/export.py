"""``apdist export RUN``: a run's model as a file that takes pixels, for programs without apdist."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

from apdist.config.values import at_least
from apdist.data import storage
from apdist.data.storage.local import room_explained
from apdist_verbs.describe_options import (
    PLAIN,
    SHARED,
    DescribeOptions,
    warn_if_learned_otherwise,
    with_recipe,
)
from apdist_verbs.start.checks import refuse_unwritable
from apdist_verbs.terminal.console import say, warn
from apdist_verbs.terminal.fields import positional, shown_default
from apdist_verbs.terminal.next_step import near
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase

if TYPE_CHECKING:
    from apdist.export.card import Said
    from apdist.export.contents import Export
    from apdist.export.parity import Exported, Parity
    from apdist.model.pretrained import TrainedModel
    from apdist.retrieval.recipe import Recipe
    from apdist.training.run_folder.runs import Run

Target = Literal["onnx", "torch", "hub", "mlflow"]
MOST_IMAGES = 1000
"""That an export is compared on: one after the other, by both networks."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Export a run's model with all that is done between pixels and descriptors inside."""

    run: Annotated[str, positional("RUN")]
    """Folder of the run."""
    to: Target
    """onnx: model.onnx; torch: model.pt2, of torch.export; hub: a folder for the Hugging Face hub,
    with model.onnx, weights and a card; mlflow: a model folder of MLflow, which takes files."""
    out: Annotated[str, shown_default("export/TO in the run's folder")] = ""
    """Folder to write, or s3:// prefix; nothing may lie there."""
    shape: tuple[int, ...] = ()
    """Height and width of all images that the graph takes; none: any, one size a batch."""
    images: int = 16
    """Images of the run's evaluation split on which the export is compared with the run."""
    shards: Annotated[str, shown_default("those of the run")] = ""
    """Folder or s3:// prefix with the shards of these images."""
    name: Annotated[str, shown_default("the run's")] = ""
    """Title of the card."""
    license: Annotated[str, shown_default("said to be unset")] = ""
    """Licence on the card, as the hub names it: apache-2.0, cc-by-nc-4.0, other."""
    push: Annotated[str, shown_default("nowhere")] = ""
    """OWNER/NAME on the hub to bring the folder to, private where it is new."""
    describing: Annotated[DescribeOptions, SHARED] = PLAIN

    def __post_init__(self) -> None:
        at_least("--images", self.images, 1)
        if self.images > MOST_IMAGES:
            raise ValueError(f"--images must be at most {MOST_IMAGES}, got {self.images}")
        for option in ("name", "license", "push"):
            if getattr(self, option) and self.to != "hub":
                raise ValueError(f"--{option} belongs to --to hub, got --to {self.to}")
        if self.to == "mlflow" and (self.shape or self.describing != PLAIN):
            raise ValueError(
                "--to mlflow takes the run's model as it is; leave --shape, --size, --scales, "
                "--whiten and --dim out, or use --to onnx"
            )


def main(argv: list[str]) -> int:
    """Parse and run."""
    options = parse(Options, argv, "apdist export")
    with phase("loading"):
        from apdist.export.hub_folder import push, refuse_words
        from apdist.export.onnx_file import refuse_without_onnx
        from apdist.export.placing import place, refuse_occupied
        from apdist.export.tracing import refuse_shape
        from apdist_verbs.described import find_run, trained_model
    refuse_words(options.license, options.push)
    refuse_shape(options.shape)
    if options.to in ("onnx", "hub"):
        refuse_without_onnx()
    run = find_run(options.run)
    out = storage.absolute(options.out or storage.join(run.uri, f"export/{options.to}"))
    refuse_occupied(out)
    if (path := storage.local_path(out)) is not None:
        refuse_unwritable("--out", path)
    model = trained_model(run)
    with TemporaryDirectory(prefix="apdist-export-") as folder:
        with room_explained(folder, "make room there, or set TMPDIR to a folder on another disk"):
            export, parity = write(run, model, options, Path(folder))
        place(Path(folder), out)
        say(f"{near(out)}: model {export.model_id}, {export.dim} numbers a picture")
        say(f"agreement: {parity}")
        if options.push:
            with phase("uploading"):
                address = push(path or Path(folder), options.push)
            say(f"{address}: look at it, then make it public there if it is to be")
    return 0


def write(run: Run, model: TrainedModel, options: Options, folder: Path) -> tuple[Export, Parity]:
    """Write what the options ask for into an empty ``folder``, measured against the run.

    Raises:
        ValueError: the network cannot be held, or the export does not agree with the run.
    """
    from apdist.export.contents import DESCRIPTION, Export
    from apdist.export.parity import parity_of
    from apdist.model.descriptor import DescriptorNet

    network = model.network
    assert isinstance(network, DescriptorNet)
    recipe = options.describing.recipe(run.uri, network.dim)
    whole = with_recipe(model, options.describing, run.uri)
    warn_if_learned_otherwise(model, whole)
    files, which = images_to_compare(run, options, whole.fit.side)
    export = Export(
        model_id=whole.model_id,
        network=network,
        fit=whole.fit,
        dim=recipe.dim_of(network),
        describing={} if recipe.is_plain else asdict(options.describing),
        shape=options.shape,
    )
    exported = _written(run, export, recipe, options.to, folder)
    with phase("comparing with the run"):
        parity = parity_of(exported, whole, files, which, options.shape)
    if options.to == "hub":
        from apdist.export.hub_folder import write_hub_files

        said = said_of(run, options)
        write_hub_files(run, export, parity, folder, said, recipe.whitening)
    elif options.to != "mlflow":
        (folder / DESCRIPTION).write_text(json.dumps(export.facts(parity), indent=2) + "\n")
    return export, parity


def _written(run: Run, export: Export, recipe: Recipe, to: Target, folder: Path) -> Exported:
    """Write the network; returns what runs the file.

    Raises:
        ValueError: the network cannot be held.
    """
    if to == "mlflow":
        from apdist.export.mlflow_folder import MlflowModel, write_mlflow

        with phase("writing the folder of MLflow"):
            write_mlflow(run, folder)
            return MlflowModel(folder)
    from apdist.export import onnx_file, torch_file
    from apdist.export.graph import PixelsToDescriptors
    from apdist.export.tracing import traced

    with phase("tracing the network"):
        graph = PixelsToDescriptors(export.network, export.fit, recipe).eval()
        program = traced(graph, export.shape)
    if to == "torch":
        torch_file.write_program(program, folder / torch_file.NAME, export.facts())
        return torch_file.TorchModel(folder / torch_file.NAME)
    with phase("translating it to ONNX"):
        onnx_file.write_onnx(program, folder / onnx_file.NAME, export.for_metadata())
        return onnx_file.OnnxModel(folder / onnx_file.NAME)


def images_to_compare(run: Run, options: Options, side: int) -> tuple[list[bytes], str]:
    """Encoded images, and which they are: of the evaluation split, drawn ones where it has none."""
    import numpy as np

    from apdist.data.images import ImageError
    from apdist.data.loading.reader import ImageReader
    from apdist.data.storage import StorageError
    from apdist.export.parity import drawn_images
    from apdist_verbs.described import shards_of, split_name, split_of

    try:
        shards, split = shards_of(run, options.shards), split_name(run)
        with phase("reading images"):
            catalogue = split_of(run.config, shards, split)
            rows = np.linspace(0, len(catalogue) - 1, min(options.images, len(catalogue)))
            reader = ImageReader(catalogue)
            files = [reader.read_one(int(row)) for row in np.unique(rows.astype(int))]
        return files, f"images of the split {split!r}"
    except (ValueError, ImageError, StorageError, OSError) as error:
        if options.shards:
            raise
        warn(f"the run's images cannot be read ({error}): the export is compared on drawn ones")
    return drawn_images(min(options.images, 16), side), "drawn pictures"


def said_of(run: Run, options: Options) -> Said:
    """What the card says beside the run's files; no counts where the data cannot be read."""
    from apdist.data.storage import StorageError
    from apdist.export.card import Said
    from apdist_verbs.described import shards_of, split_of

    data, name = run.config.data, options.name or run.name
    splits = list(filter(None, (data.train_split, data.eval_split)))
    try:
        shards = shards_of(run, options.shards)
        labels = [split_of(run.config, shards, split).labels.tolist() for split in splits]
    except (ValueError, StorageError, OSError):  # told already where images were looked for
        return Said(name=name, license=options.license)
    return Said(
        name=name,
        license=options.license,
        counts={s: (len(own), len({*own})) for s, own in zip(splits, labels, strict=True)},
        num_shared=len({*labels[0]} & {*labels[-1]}),
    )
