"""A trained run and the descriptors of a split: where evaluate, index, search and report start."""

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from apdist.config import Config
from apdist.data import storage
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.data.catalogue.selection import images_of
from apdist.data.images import Box
from apdist.model.pretrained import DESCRIPTION_NAME, TrainedModel, load_model
from apdist.retrieval.describe import describe_split, describe_views
from apdist.training.events import Ended
from apdist.training.run_folder.runs import CONFIG_NAME, Run, open_run
from apdist_verbs.describe_options import (
    PLAIN,
    DescribeOptions,
    warn_if_learned_otherwise,
    with_recipe,
)
from apdist_verbs.settling import settle_if_behind
from apdist_verbs.terminal.console import warn
from apdist_verbs.terminal.devices import best_device
from apdist_verbs.terminal.ending import told
from apdist_verbs.terminal.progress import phase, progress_bar


@dataclass(frozen=True)
class Described:
    """The images of a split and their descriptors (n, d)."""

    catalogue: Catalogue
    descriptors: Tensor


@phase("opening the run")
def find_run(uri: str) -> Run:
    """The run at ``uri``; empty: the newest under ./runs.

    Raises:
        ValueError: there is none, or its files are damaged.
    """
    run = open_run(storage.absolute(uri) if uri else newest_run(storage.absolute("runs")))
    settle_if_behind(run)
    return run


def newest_run(root: str) -> str:
    """The run under ``root`` that was begun last.

    Raises:
        ValueError: there is none.
    """
    import os

    names = [name for name in storage.list_folders(root) if not name.startswith(".")]
    found = [uri for uri in (storage.join(root, name) for name in names) if _has_model(uri)]
    if not found:
        raise ValueError(
            f"no run under {root} has come to its end; train one first, or name it: --run RUN"
        )
    return max(found, key=lambda uri: os.path.getmtime(storage.join(uri, CONFIG_NAME)))


def _has_model(uri: str) -> bool:
    try:
        return storage.exists(storage.join(uri, DESCRIPTION_NAME))
    except OSError as error:  # one of another person
        warn(f"passed over: {told(error)}")
        return False


@functools.cache  # one line a run
def warn_of_unkept(run_uri: str, remedy: str) -> None:
    """Say that the run's folder keeps no figures, as that of another person."""
    warn(f"nothing can be written to {run_uri}, which keeps no figures of this; {remedy}")


@phase("loading weights")
def trained_model(run: Run, describing: DescribeOptions = PLAIN) -> TrainedModel:
    """The run's model, with what is done beside its own way.

    Raises:
        ValueError: the run has not come to its end, or that cannot be done.
    """
    if not run.of_kind(Ended):
        raise ValueError(
            f"{run.uri} has done {run.steps_done} of {run.config.training.steps} steps and has no "
            f"model yet; go on with: apdist train --resume {shlex.quote(run.uri)}"
        )
    model = load_model(run.uri)
    whole = with_recipe(model, describing, run.uri)
    warn_if_learned_otherwise(model, whole)
    return whole


def shards_of(run: Run, given: str) -> str:
    """The shards ``given`` on the command line, or those of the run.

    Raises:
        ValueError: none are given, and the run was converted without any.
    """
    if not given and run.info.get("origin", {}).get("has_shards") is False:
        raise ValueError(
            f"{run.uri} was converted and has no images of its own; give --shards, to this command "
            "or to `apdist convert`"
        )
    return storage.absolute(given or run.config.data.shards)


def split_name(run: Run) -> str:
    """The split that the run is measured on."""
    return run.config.data.eval_split or run.config.data.train_split


def split_of(config: Config, shards: str, split: str) -> Catalogue:
    """The images of a split, of which ``holdout`` depends on the run's own options."""
    return images_of(split, read_catalogue(shards), config.data, config.training.seed)


@functools.lru_cache(maxsize=1)  # the demo evaluates, indexes and reports the same split
def describe(
    run_uri: str, model_id: str, shards: str, split: str, describing: DescribeOptions = PLAIN
) -> Described:
    """Describe a split with the model of a run, on a GPU if there is one."""
    with phase("reading the catalogue"):
        model = with_recipe(load_model(run_uri), describing, run_uri)
        assert model.model_id == model_id
        catalogue = split_of(open_run(run_uri).config, shards, split)
    return Described(catalogue, describe_catalogue(model, catalogue, split))


def describe_catalogue(
    model: TrainedModel,
    catalogue: Catalogue,
    what: str,
    views: Sequence[tuple[int, Box | None]] | None = None,
) -> Tensor:
    """Descriptors (n, d) of all images, or of ``views``: rows and what is cut out of each.

    Queries and databases are both described here, so that nothing can be done to one alone.
    """
    network = model.network.to(best_device())
    with progress_bar(f"describing {what}", len(catalogue if views is None else views)) as update:
        if views is None:
            return describe_split(network, catalogue, fit=model.fit, progress=update)
        return describe_views(network, catalogue, views, fit=model.fit, progress=update)
