"""What the description of the API in OpenAPI says beside the types of its answers."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from apdist.serving.answers import ErrorAnswer
from apdist.serving.guard import OPEN

DESCRIPTION = (
    "Search the images of an index with pictures.\n\n"
    "Send a picture as the body of POST /v1/search, with its media type, or JSON with the picture "
    "in base64 or the key of an image of the index. Where the server has a token, each request but "
    "those of /health, /docs and /openapi.json needs it: `Authorization: Bearer TOKEN`. A method "
    "that a route lacks is 405; HEAD is answered as GET is, without the body."
)
REASONS = {
    400: "The picture cannot be decoded, or the body is no JSON.",
    401: "The token is missing or another one.",
    404: "There is no image of this key, or its picture is gone.",
    408: "The body took too long to arrive.",
    413: "Too many bytes or pixels.",
    415: "The body is neither a picture nor JSON; multipart forms are not taken.",
    421: "The server is not known by the name in the Host header.",
    422: "A field or a condition is none.",
    503: "Too much is under way; try again after Retry-After seconds.",
}
_TEXT = {"type": "string"}
SEARCH_BODY: dict[str, Any] = {
    "required": True,
    "description": "The picture, or JSON with exactly one of image and key. What JSON says takes "
    "the place of what the address says.",
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/json": {
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "image": {**_TEXT, "description": "In base64."},
                    "key": {**_TEXT, "description": "Of an image, which does not find itself."},
                    "k": {"type": "integer", "minimum": 1, "default": 10},
                    "where": {"type": "array", "items": _TEXT},
                    "box": {
                        "type": "array",
                        "items": {"type": "number"},
                        "minItems": 4,
                        "maxItems": 4,
                        "description": "Left, top, right, bottom in pixels of the picture.",
                    },
                    "least_score": {"type": "number", "minimum": -1, "maximum": 1},
                },
            },
            "example": {"key": "KEY", "k": 5, "where": ["label_name=cat"]},
        },
    },
}


def describe(app: FastAPI, with_token: bool) -> None:
    """Say in the description which routes need a token, when all of them are there."""
    if not with_token:
        return
    told = app.openapi()  # which it keeps
    told["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    told["security"] = [{"token": []}]
    for path, routes in told["paths"].items():
        if path in OPEN:
            for route in routes.values():
                route["security"] = []


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may be refused with, beside what any may: the token and the name of the host."""
    return {
        status: {"description": REASONS[status], "model": ErrorAnswer}
        for status in sorted({401, 421, *statuses})
    }
