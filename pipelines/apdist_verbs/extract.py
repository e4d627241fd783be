"""``apdist extract``: descriptors of all images as Parquet, one file per shard, on Ray Data."""

import hashlib
import json
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from apdist.config import RayConfig, values
from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.data.storage.inside import is_whole, refuse_outside
from apdist.training.cluster.elastic import free_gpus
from apdist.training.cluster.ends import lost_cluster_explained
from apdist.training.cluster.joining import arrival, ray_cluster, resources_of_nodes
from apdist.training.cluster.room import uses_gpus, with_number
from apdist_verbs.describe_options import (
    CONTENTS,
    PLAIN,
    SHARED,
    DescribeOptions,
    options_to_json,
    with_recipe,
)
from apdist_verbs.start.checks import refuse_unwritable
from apdist_verbs.terminal.bounds import at_least
from apdist_verbs.terminal.console import say
from apdist_verbs.terminal.fields import Argument, shown_default
from apdist_verbs.terminal.next_step import near
from apdist_verbs.terminal.options import parse
from apdist_verbs.terminal.progress import phase, progress_bar

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Options:
    """Describe every image of the shards; finished shards are passed over on a second run."""

    out: str
    """Folder or s3:// prefix for the Parquet files, of one model and one set of shards."""
    run: Annotated[str, shown_default("the newest under runs/")] = ""
    """Folder of the run whose model describes."""
    shards: Annotated[str, shown_default("those of the run")] = ""
    """Folder or s3:// prefix with the shards to describe."""
    batch_size: int = 256
    """Images described at once."""
    ray_address: Annotated[str, Argument(name="ray.address")] = RayConfig.address
    """`local` starts Ray on this machine; `auto` or host:port joins a running cluster."""
    ray_num_workers: Annotated[int | Literal["auto"], Argument(name="ray.num-workers")] = "auto"
    """Actors that each hold the model; auto: one for each GPU, two where there is none."""
    ray_use_gpu: Annotated[Literal["auto", "yes", "no"], Argument(name="ray.use-gpu")] = "auto"
    """A GPU for each actor, or none. auto: where the machine, or the cluster, has that many."""
    ray_autoscaling: Annotated[bool, Argument(name="ray.autoscaling")] = False
    """The cluster grows on demand: wait for nodes instead of refusing too many actors."""
    describing: Annotated[DescribeOptions, SHARED] = PLAIN

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size)
        if isinstance(self.ray_num_workers, int):
            values.at_least("ray.num_workers", self.ray_num_workers, 1)

    @property
    def ray(self) -> RayConfig:
        """The cluster and the actors on it."""
        return RayConfig(
            address=self.ray_address,
            num_workers=self.ray_num_workers,
            use_gpu=self.ray_use_gpu,
            autoscaling=self.ray_autoscaling,
        )


def main(argv: list[str]) -> int:
    """Parse and run."""
    extract(parse(Options, argv, "apdist extract"))
    return 0


def extract(options: Options) -> None:
    """Describe the shards that have no Parquet file yet."""
    with phase("loading"):
        from apdist.data.catalogue.catalogue import read_catalogue
        from apdist.data.loading.sequential import shard_names
        from apdist_verbs.described import find_run, shards_of, trained_model
        from apdist_verbs.terminal.devices import say_if_idle

    run = find_run(options.run)
    model_id = trained_model(run, options.describing).model_id
    shards, out = shards_of(run, options.shards), storage.absolute(options.out)
    catalogue = read_catalogue(shards)
    names = shard_names(catalogue)
    contents = {
        "model": model_id,
        "data": catalogue.fingerprint(),
        "describing": options_to_json(options.describing),
    }
    refuse_others(out, contents)
    waiting = [n for n in names if not storage.exists(_target(out, n))]
    say(f"{len(names) - len(waiting)} of {len(names)} shards are described already")
    if not waiting:
        say(f"read them: pyarrow.parquet.read_table({near(out)!r})")
        return
    say_if_idle(options.ray, "apdist extract with --ray.num-workers")
    going_on = "the same command goes on with the shards that are missing"
    with ExitStack() as stack:
        with phase(arrival(options.ray)):
            stack.enter_context(ray_cluster(options.ray, smaller="with fewer --ray.num-workers"))
        stack.enter_context(lost_cluster_explained(going_on))
        if not storage.create(storage.join(out, CONTENTS), json.dumps(contents).encode()):
            refuse_others(out, contents)  # another process may have begun meanwhile
        try:
            _extract(options, run.uri, shards, out, waiting)
        except BaseException:
            if not any(storage.exists(_target(out, name)) for name in names):
                storage.remove(storage.join(out, CONTENTS))  # nothing came of it
            raise
    say(f"{out}: descriptors of {len(names)} shards by model {model_id}")
    say(f"read them: pyarrow.parquet.read_table({near(out)!r})")


def refuse_others(out: str, contents: dict[str, Any]) -> None:
    """Refuse a folder with descriptors of another model or of other images.

    Raises:
        ValueError: they would be mixed; or nobody may write there.
    """
    if (path := storage.local_path(out)) is not None:
        refuse_unwritable("--out", path)
    uri = storage.join(out, CONTENTS)
    if not storage.exists(uri):
        if storage.list_files(out, ".parquet"):
            raise ValueError(
                f"{out} holds .parquet files that `apdist extract` did not write; choose another "
                "--out"
            )
        return
    try:
        there = read_json(storage.read_bytes(uri))
        model, data = there["model"], there["data"]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{uri} is damaged; choose another --out, or remove {out}") from error
    if model != contents["model"]:
        raise ValueError(
            f"{out} holds descriptors of model {model}, not of {contents['model']}; choose another "
            "--out"
        )
    if data != contents["data"]:
        raise ValueError(
            f"{out} holds descriptors of other images (or of these before they were prepared or "
            "labelled again); choose another --out"
        )


def _extract(options: Options, run: str, shards: str, out: str, names: list[str]) -> None:
    with phase("loading Ray Data"):
        import ray.data

    # After the import, which sets it: plans and durations are no news for our users.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.data.DataContext.get_current().enable_progress_bars = False
    nodes = resources_of_nodes()
    config = with_number(options.ray, nodes, free_gpus(options.ray))
    with_gpus = uses_gpus(config, nodes)
    done = 0
    with progress_bar("describing shards", len(names)) as update:
        update.phase("starting the actors")
        described = ray.data.from_items([{"shard": name} for name in names]).map_batches(
            Describer,
            fn_constructor_args=(run, shards, out, options, with_gpus),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(config.most_workers, len(names))),
            num_gpus=1 if with_gpus else None,
        )
        for row in described.iter_rows():
            if row["refused"]:
                raise ValueError(row["refused"])
            done += 1
            update(done)


class Describer:
    """An actor that holds the model and writes the descriptors of a shard at a time."""

    def __init__(self, run: str, shards: str, out: str, options: Options, with_gpu: bool) -> None:
        from apdist.data.catalogue.catalogue import read_catalogue
        from apdist.model.pretrained import load_model

        self.model = with_recipe(load_model(run), options.describing, run)
        self.model.network.to("cuda" if with_gpu else "cpu")
        self.catalogue = read_catalogue(shards)
        self.out, self.batch_size = out, options.batch_size

    def __call__(self, batch: "dict[str, NDArray[Any]]") -> "dict[str, NDArray[Any]]":
        """Describe the shards named in ``batch``; tell why one cannot be, or an empty text."""
        import numpy as np

        refused = [self._refusal(str(name)) for name in batch["shard"].tolist()]
        return {**batch, "refused": np.array(refused)}

    def _refusal(self, name: str) -> str:
        try:
            self._write(name)
        except (ValueError, OSError) as error:  # the driver raises it again, without Ray's frames
            return str(error)
        return ""

    def _write(self, name: str) -> None:
        import io

        import pyarrow as pa
        import pyarrow.parquet as pq

        from apdist.retrieval.describe import describe_images
        from apdist.retrieval.stored.writing import MODEL_COLUMN

        rows, descriptors = describe_images(
            self.model.network,
            self.catalogue,
            fit=self.model.fit,
            batch_size=self.batch_size,
            shards=[name],
        )
        names = ["key", "source", "label", "label_name", "split"]
        names += ["width", "height", "offset", "size"]
        table = pa.table({name: self.catalogue.column(name).take(rows) for name in names})
        uri = storage.shown(storage.join(self.catalogue.root, name))  # all see it in the table
        table = table.append_column("shard", pa.array([uri] * len(rows)).dictionary_encode())
        model = pa.array([self.model.model_id] * len(rows)).dictionary_encode()
        table = table.append_column(MODEL_COLUMN, model)
        values = pa.FixedSizeListArray.from_arrays(
            pa.array(descriptors.reshape(-1).numpy()), descriptors.shape[1]
        )
        about = {
            "apdist.model": self.model.model_id,
            "apdist.dim": str(descriptors.shape[1]),
            "apdist.metric": "cosine",
        }
        target = io.BytesIO()
        table = table.append_column("descriptor", values).replace_schema_metadata(about)
        pq.write_table(table, target)
        storage.write_bytes(_target(self.out, name), target.getvalue())


def _target(out: str, shard: str) -> str:
    """The table of a shard: in ``out``, wherever the shard lies that a catalogue names."""
    if is_whole(shard):  # of `prepare index --out`; the hash tells those of one name apart
        name = shard.rpartition("/")[2].removesuffix(".tar")
        shard = f"{name}-{hashlib.sha256(shard.encode()).hexdigest()[:12]}"
    refuse_outside(shard, "the catalogue")
    return storage.join(out, f"{shard.removesuffix('.tar')}.parquet")
