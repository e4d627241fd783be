"""The templates of the report: what a user can name is escaped, what is not given is an error."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from apdist.report.pictures import Picture, embed, number


def render(
    name: str, pictures: Sequence[Picture], dots: Sequence[Picture], max_bytes: int, **shown: Any
) -> tuple[str, tuple[str, ...]]:
    """A page of `templates/`, and in words what the limit took away.

    Pictures get what the texts leave of ``max_bytes``; undecodable bytes of a file's name become
    question marks.

    Args:
        name: of the template.
        pictures: that it shows, the most important first.
        dots: those of the map.
        max_bytes: of the page. Texts are never cut.
        shown: what the template takes.
    """
    template = _environment().get_template(name)

    def page(**album: Any) -> str:
        return template.render(**shown, **album).encode("utf-8", "replace").decode("utf-8")

    bare = page(album=number([*pictures, *dots]), notes=())
    room = max_bytes - len(bare.encode()) - 1000  # the notes
    album = embed(pictures, dots, max(0, room))
    notes = album.notes
    if room < 0:
        notes = (f"texts alone take {len(bare.encode()) / 1e6:.2f} MB", *notes)
    return page(album=album, notes=notes), notes


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("apdist.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "signed": signed}
    environment.globals |= {"fallen": fallen, "script_hash": script_hash}
    return environment


def script_hash() -> str:
    """By which a browser knows the page's own script, and runs no other."""
    script = _environment().get_template("script.js").render()
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def percent(share: float) -> str:
    """A share as CSS wants it."""
    return f"{100 * share:.1f}%"


def signed(change: float, digits: int) -> str:
    """A change with its sign: the true minus is as wide as the plus."""
    sign = "\N{MINUS SIGN}" if round(change, digits) < 0 else "+"
    return f"{sign}{abs(change):.{digits}f}"


def fallen(before: float, after: float, digits: int) -> bool:
    """Whether a figure got worse by as much as is shown."""
    return round(after - before, digits) < 0
