"""Open an index with the model that described its images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from apdist.data import storage
from apdist.given import Place, place_of
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import DESCRIPTION_NAME, TrainedModel, load_model
from apdist.retrieval.index import load_index
from apdist.retrieval.querying.open_index import OpenIndex
from apdist.retrieval.recipe import prepared, recipe_of
from apdist.retrieval.search_index import SearchIndex
from apdist.retrieval.several import SeveralIndexes
from apdist.retrieval.stored.folder import SETTINGS, read_settings


def open_index(
    place: Place | Sequence[Place], *, run: Place = "", device: str = "auto"
) -> OpenIndex:
    """Open an index, and the model that its images were described with.

    Args:
        place: folder of a run, whose `index` is opened, or of an index, or of several to search
            together.
        run: folder of the run whose model describes; empty: the one that is ``place``, in which the
            index lies, or which the index notes.
        device: where pictures are described: cpu, cuda, or auto for the GPU where there is one.

    Raises:
        ValueError: there is no such index or model, they do not fit, or are damaged.
    """
    several = place if isinstance(place, Iterable) and not isinstance(place, str) else [place]
    places = [place_of("place", one) for one in several]
    run = place_of("run", run)
    if not places:
        raise ValueError("expected the folder of a run or of an index, got none")
    folders = {one: index_at(storage.absolute(one)) for one in places}
    first = next(iter(folders.values()))
    its_run = storage.absolute(run) if run else run_of(*folders.values())
    loaded = {name: load_index(folder, model_id=None) for name, folder in folders.items()}
    index = SeveralIndexes(loaded) if len(loaded) > 1 else next(iter(loaded.values()))
    model = model_of(index, its_run)
    index.refuse_model(model.model_id, first)
    model.network.to(_device(device))
    return OpenIndex(index, model)


def run_of(*indexes: str) -> str:
    """The run whose model described the images of indexes: one lies in it, or notes it.

    Raises:
        ValueError: there is no such index, or no such run any more.
    """
    said: list[str] = []
    for index in indexes:
        above, noted = index.rpartition("/")[0], str(read_settings(index).get("run", ""))
        for run in (above, noted):
            if run and _holds(run, DESCRIPTION_NAME):
                return run
        said.append(f"the run that it notes, {noted}, is gone" if noted else "notes none")
    raise ValueError(
        f"{indexes[0]} lies in no run, and {said[0]}; name the one that describes: --run RUN (run= "
        "in Python)"
    )


def model_of(index: SearchIndex | SeveralIndexes, run: str) -> TrainedModel:
    """The model of a run, which describes as the images of ``index`` were described.

    Raises:
        ValueError: the run has no model, or what the index says of its images is damaged.
    """
    model = load_model(run)
    assert isinstance(model.network, DescriptorNet)
    describing: Any = index.settings.get("describing")
    return prepared(model, recipe_of(describing, run, model.network.dim)) if describing else model


def index_at(place: str) -> str:
    """The folder of the index: ``place``, or in it where it is a run.

    Raises:
        ValueError: there is none.
    """
    if _holds(place, SETTINGS):
        return place
    below = storage.join(place, "index")
    if not _holds(place, DESCRIPTION_NAME):
        raise ValueError(
            f"{place} is no index and no run that has come to its end ({SETTINGS} and "
            f"{DESCRIPTION_NAME} are missing); check the path, or build one: apdist index"
        )
    if not _holds(below, SETTINGS):
        raise ValueError(f"no index at {below}; build one with: apdist index --run {place}")
    return below


def _holds(folder: str, name: str) -> bool:
    return storage.exists(storage.join(folder, name))


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=(device := torch.device(name)))
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), "")
        raise ValueError(f"device {name!r} cannot be used ({reason}); give auto or cpu") from error
    return device
