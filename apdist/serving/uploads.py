"""A request's body to what is searched for: an encoded picture, or a key of the index."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import math
import warnings
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image, UnidentifiedImageError
from starlette.requests import ClientDisconnect, Request

from apdist.config import suggestion
from apdist.config.json_text import read_json
from apdist.data.images import Box, ImageError, image_size
from apdist.data.preparing.kinds import SNIFFED
from apdist.retrieval.protocols.queries import LEAST_INSIDE, part_inside, reaches_out
from apdist.serving.limits import Held, Limits, RefusedError

DEFAULT_K = 10
FIELDS = ("image", "key", "k", "where", "box", "least_score")
"""Of a body in JSON."""
_TAKEN = "send the picture itself with Content-Type: image/jpeg (or another image type), or JSON"


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is searched for, and how."""

    image: bytes = b""
    """Encoded; empty where the query is an image of the index."""
    key: str = ""
    k: int = DEFAULT_K
    where: tuple[str, ...] = field(default=())
    box: Box | None = None
    """Part of the picture to search for, in pixels of the upright picture."""
    least_score: float = -1.0


async def body_of(
    parts: AsyncIterator[bytes], headers: Mapping[str, str], held: Held, limits: Limits
) -> bytes:
    """The whole body of a request.

    Raises:
        RefusedError: it is too large, too slow, or there is no memory for it now.
    """
    most = limits.body_bytes if media_type(headers) == "application/json" else limits.bytes
    told = headers.get("content-length", "")
    if told.isdecimal() and int(told) > most:
        raise _too_large(most, told)

    async def read() -> bytes:
        body = bytearray()
        async for part in parts:
            if len(body) + len(part) > most:
                raise _too_large(most, "more")
            held.take(len(part))
            body += part
        return bytes(body)

    try:
        return await asyncio.wait_for(read(), limits.upload_s)
    except asyncio.TimeoutError as error:
        raise RefusedError(
            408, "too_slow", f"the body took longer than {limits.upload_s:g} s to arrive"
        ) from error
    except ClientDisconnect as error:
        raise RefusedError(400, "cut_off", "the body has not arrived as a whole") from error


async def refuse_unknown_options(request: Request) -> None:
    """Raise unless each option of the address is one of its route's, and is there once.

    Raises:
        RefusedError: a search would go on without what was meant.
    """
    route = request.scope["route"]
    if not route.path.startswith("/v1/"):
        return
    known = {parameter.alias for parameter in route.dependant.query_params}
    for name in request.query_params:
        if name not in known:
            hint = suggestion(name, sorted(known))
            expected = ", ".join(sorted(known)) or "none"
            raise _invalid(f"unknown option {_shown(name)}{hint}; expected {expected}")
        if name != "where" and len(request.query_params.getlist(name)) > 1:
            raise _invalid(f"{name} is there more than once; expected one value")


def media_type(headers: Mapping[str, str]) -> str:
    """Of the body, without its parameters."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def query_of(body: bytes, kind: str, options: Mapping[str, Any], limits: Limits) -> Query:
    """What a body of the media type ``kind`` asks for.

    Args:
        body: of the request.
        kind: an image's media type, or that of JSON.
        options: k, where, box and least_score of the address; those in JSON take their place.
        limits: what may be asked for.

    Raises:
        RefusedError: it asks for nothing, or for what may not be.
    """
    if kind == "application/json":
        given = {**options, **_json(body)}
    elif kind.startswith("image/"):
        if not body:
            raise RefusedError(400, "no_picture", f"the body is empty; {_TAKEN}")
        given = {**options, "image": body}
    else:
        raise RefusedError(
            415,
            "media_type",
            f"expected a picture or JSON, got {kind[:80] or 'no type'!r}; {_TAKEN}",
        )
    image, key = given.get("image", b""), given.get("key", "")
    if bool(image) == bool(key):
        raise _invalid("expected one of image (base64) and key (of an image of the index)")
    if not isinstance(key, str):
        raise _invalid(f"key: expected a text, got {_shown(key)}")
    return Query(
        image=image if isinstance(image, bytes) else _decoded(image, limits),
        key=key,
        k=_k(given.get("k", DEFAULT_K), limits),
        where=_where(given.get("where", ())),
        box=_box(given.get("box")),
        least_score=_number("least_score", given.get("least_score", -1.0), -1, 1),
    )


def check_picture(data: bytes, limits: Limits) -> tuple[int, int]:
    """Width and height of an upload that may be decoded, from its header.

    Raises:
        RefusedError: it is of no kind that is taken, or has too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            # Others' readers start programs (EPS), or hold whole documents.
            Image.open(io.BytesIO(data), formats=SNIFFED)
    except UnidentifiedImageError as error:
        raise RefusedError(
            400, "not_a_picture", f"the picture is none of {', '.join(SNIFFED)}, or is damaged"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(limits, "more") from error
    except Exception:  # noqa: S110  its metadata may be damaged; decoding will tell
        pass
    try:
        width, height = image_size(data)
    except ImageError as error:
        raise undecodable(error) from error
    if width * height > limits.pixels:
        raise _too_many_pixels(limits, f"{width} x {height}")
    return width, height


def check_box(box: Box, size: tuple[int, int]) -> None:
    """Raise unless something of a picture is in the box, and the box is of a picture of its size.

    Raises:
        RefusedError: nothing is, or more than a tenth of the box lies outside.
    """
    left, top, right, bottom = map(round, box)
    is_empty = 0 in part_inside((left, top, right, bottom), *size)
    if is_empty or reaches_out(box, *size):
        raise _invalid(
            f"box: expected left, top, right, bottom in pixels of the upright picture, which has "
            f"{size[0]} x {size[1]}, and {LEAST_INSIDE:.0%} of the box inside, got "
            f"{', '.join(f'{side:g}' for side in box)}"
        )


def undecodable(error: Exception) -> RefusedError:
    """The refusal of a picture that cannot be decoded."""
    return RefusedError(400, "not_a_picture", f"the picture {error}")


def _json(body: bytes) -> dict[str, Any]:
    try:
        given = read_json(body)
    except ValueError as error:
        raise RefusedError(400, "not_json", f"the body is no JSON ({error})") from error
    if not isinstance(given, dict):
        raise _invalid(f"expected an object with {', '.join(FIELDS)}, got {_shown(given)}")
    for name in given:
        if name not in FIELDS:
            hint = suggestion(name, list(FIELDS))
            raise _invalid(f"unknown field {_shown(name)}{hint}; expected {', '.join(FIELDS)}")
    return {name: value for name, value in given.items() if value is not None}


def _decoded(text: object, limits: Limits) -> bytes:
    if not isinstance(text, str):
        raise _invalid(f"image: expected a text in base64, got {_shown(text)}")
    try:
        data = base64.b64decode(text.removeprefix("data:").rpartition(",")[2], validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, "not_base64", f"image is no base64 ({error})") from error
    if len(data) > limits.bytes:
        raise _too_large(limits.bytes, str(len(data)))
    return data


def _k(value: object, limits: Limits) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= limits.k:
        raise _invalid(f"k: expected a whole number from 1 to {limits.k}, got {_shown(value)}")
    return value


def _where(value: object) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise _invalid(f"where: expected conditions as label_name=cat, got {_shown(value)}")
    return tuple(texts)


def _box(value: object) -> Box | None:
    if value is None or value == "":
        return None
    sides = value.split(",") if isinstance(value, str) else value
    if not isinstance(sides, list) or len(sides) != 4:
        raise _invalid(f"box: expected left, top, right, bottom, got {_shown(value)}")
    left, top, right, bottom = (_number("box", side, -1e6, 1e6) for side in sides)
    return left, top, right, bottom


def _number(name: str, value: object, least: float, most: float) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not least <= number <= most:  # nor is NaN
        raise _invalid(f"{name}: expected a number from {least:g} to {most:g}, got {_shown(value)}")
    return number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({type(value).__name__})"


def _invalid(message: str) -> RefusedError:
    return RefusedError(422, "invalid", message)


def _too_large(most: int, got: str) -> RefusedError:
    return RefusedError(
        413, "too_large", f"expected at most {most} bytes, got {got}; send a smaller picture"
    )


def _too_many_pixels(limits: Limits, got: str) -> RefusedError:
    return RefusedError(
        413,
        "too_many_pixels",
        f"expected at most {limits.pixels} pixels, got {got}; send a smaller picture",
    )
