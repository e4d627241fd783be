"""What the API answers, as its description in OpenAPI tells it."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, Field


class Result(BaseModel):
    """An image that was found."""

    rank: int = Field(description="From 1.")
    score: float = Field(description="Cosine similarity to the query, from -1 to 1.")
    key: str = Field(description="Names the image; its picture is at /v1/images?key=KEY.")
    label: str = Field(description="Name of its class; empty where it has none.")
    entry: dict[str, Any] = Field(description="All that the index tells of the image.")


class SearchAnswer(BaseModel):
    """What was found."""

    index_version: str = Field(description="State of the index that was searched.")
    milliseconds: float = Field(description="From the request to the answer, on the server.")
    results: list[Result] = Field(description="Best first.")


class IndexAnswer(BaseModel):
    """What is served."""

    index_version: str
    model_id: str = Field(description="Of the model that described the images.")
    kind: str = Field(description="How it is searched: exact, or approximately.")
    images: int
    dim: int = Field(description="Numbers of a descriptor.")
    metric: str = Field(description="What scores are.")
    columns: list[str] = Field(description="For conditions, as where=COLUMN=VALUE.")
    label_column: str = Field(description="That with the classes; empty where there is none.")
    labels: list[str] = Field(description="Names of the first classes, in order.")
    num_labels: int
    limits: dict[str, int] = Field(description="Of a request: bytes, pixels, k.")


class Health(BaseModel):
    """Whether searches are answered."""

    status: str = Field(description="ready, or stopping.")
    index_version: str
    reload_error: str = Field(
        description="Why the index as it is now is not the one that is served; mostly empty."
    )


class ErrorAbout(BaseModel):
    """Why a request was refused."""

    code: str = Field(description="For programs.")
    message: str = Field(description="For people: what was expected, what came, what to do.")


class ErrorAnswer(BaseModel):
    """Every answer of a status from 400 on."""

    error: ErrorAbout


def plain(value: Any) -> Any:
    """A value of an index as JSON has it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {str(name): plain(one) for name, one in value.items()}
    return value.hex() if isinstance(value, bytes) else str(value)
