"""Retrieval scores on disk, as JSON."""

import dataclasses
import json

import torch

from apdist.config.json_text import read_json
from apdist.data import storage
from apdist.retrieval.metrics import RetrievalScores

_TENSORS = ("average_precision", "precision_at_recall")
_BY_RANK = ("recall_at", "map_at")


def write_scores(scores: RetrievalScores, uri: str) -> None:
    """Write ``scores``; the per-query AP is rounded to six digits, NaN becomes null."""
    fields = {f.name: getattr(scores, f.name) for f in dataclasses.fields(scores)}
    for name in _TENSORS:
        values = fields[name].tolist()
        fields[name] = [round(v, 6) if v == v else None for v in values]
    storage.write_bytes(uri, json.dumps(fields).encode())


def read_scores(uri: str) -> RetrievalScores:
    """Read what `write_scores` wrote.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        fields = read_json(storage.read_bytes(uri))
        for name in _TENSORS:
            values = [float("nan") if v is None else v for v in fields[name]]
            fields[name] = torch.tensor(values, dtype=torch.float64)
        for name in _BY_RANK:
            fields[name] = {int(k): v for k, v in fields[name].items()}
        return RetrievalScores(**fields)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{uri} holds no scores or is damaged; evaluate again") from error
