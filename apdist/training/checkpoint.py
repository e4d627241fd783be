"""Checkpoints: everything a run needs to go on, written whole or not at all.

A checkpoint is a folder ``checkpoints/step-000060`` of the run with ``state.pt`` (tensors) and
``meta.json``, which is written last: a folder without it does not count. The newest complete one is
found by listing, on a disk as in object storage, so a restarted worker group, another number of
workers and a later ``--resume`` all go on from the same place.
"""

import dataclasses
import io
import json
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from apdist.data import storage

FOLDER = "checkpoints"
META_NAME = "meta.json"
STATE_NAME = "state.pt"


@dataclass(frozen=True)
class CheckpointMeta:
    """What a checkpoint belongs to."""

    step: int
    """Steps done; also the number of the next one."""
    config_hash: str
    """Of the options that decide the result; see `apdist.config.config_hash`."""
    data_hash: str
    """Of the images that are trained on; see `Catalogue.fingerprint` of the catalogue."""


def whole_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Model and optimiser on the CPU, by name; all workers must call it.

    The same whether parameters are sharded or not, so a run may change that between checkpoints.
    On workers other than 0 it is empty if they are sharded.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    model_state, optimizer_state = get_state_dict(model, optimizer, options=options)
    return {"model": model_state, "optimizer": optimizer_state}


def save_checkpoint(run: str, state: dict[str, Any], meta: CheckpointMeta) -> str:
    """Write a checkpoint into the run's folder; returns its URI."""
    uri = storage.join(run, f"{FOLDER}/step-{meta.step:06d}")
    target = io.BytesIO()
    torch.save(state, target)
    storage.write_bytes(storage.join(uri, STATE_NAME), target.getvalue())
    data = json.dumps(dataclasses.asdict(meta)).encode()
    storage.write_bytes(storage.join(uri, META_NAME), data)
    return uri


def latest_checkpoint(run: str) -> str:
    """URI of the newest complete checkpoint of the run, or an empty string."""
    root = storage.join(run, FOLDER)
    for name in sorted(storage.list_folders(root), reverse=True):
        uri = storage.join(root, name)
        if storage.exists(storage.join(uri, META_NAME)):
            return uri
    return ""


def read_meta(uri: str) -> CheckpointMeta:
    """What the checkpoint at ``uri`` belongs to.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        return CheckpointMeta(**json.loads(storage.read_bytes(storage.join(uri, META_NAME))))
    except (json.JSONDecodeError, TypeError) as error:
        raise _damaged(uri, error) from error


def load_checkpoint(
    uri: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    config_hash: str,
    data_hash: str,
) -> int:
    """Restore model and optimiser; returns the number of steps done. All workers must call it.

    Raises:
        ValueError: the checkpoint is damaged or was written with other options or images.
    """
    meta = read_meta(uri)
    if meta.config_hash != config_hash:
        raise ValueError(
            f"{uri} was written with other data, model, loss or training options "
            f"({meta.config_hash}, now {config_hash}); resume without changing them, or start anew"
        )
    if meta.data_hash != data_hash:
        raise ValueError(
            f"{uri} was written while training on other images; the catalogue or the list of "
            "excluded images has changed since: put it back, or start anew"
        )
    data = io.BytesIO(storage.read_bytes(storage.join(uri, STATE_NAME)))
    try:
        state: dict[str, Any] = torch.load(data, map_location="cpu", weights_only=True)
        whole = StateDictOptions(full_state_dict=True)
        set_model_state_dict(model, state["model"], options=whole)
        # Not strict: the optimiser has nothing to say of a parameter that was never used.
        lenient = StateDictOptions(full_state_dict=True, strict=False)
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=lenient)
    except (pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
        raise _damaged(uri, error) from error
    return meta.step


def prune_checkpoints(run: str, keep: int) -> None:
    """Delete all but the ``keep`` newest checkpoints."""
    root = storage.join(run, FOLDER)
    for name in sorted(storage.list_folders(root))[:-keep]:
        # The marker goes first: what is half deleted must not count.
        for file in (META_NAME, STATE_NAME):
            storage.remove(storage.join(root, f"{name}/{file}"))


def _damaged(uri: str, error: Exception) -> ValueError:
    return ValueError(f"the checkpoint {uri} is damaged ({error}); delete it to use the one before")
