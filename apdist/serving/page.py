"""The pages of a server: that to search with, and that which describes the API. They load nothing.

What is not written by us is escaped, and never part of a page that searches: it asks the API.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def page(name: str, **shown: Any) -> tuple[str, str]:
    """A page of `templates/`, and its content security policy."""
    text = _environment().get_template(name).render(**shown)
    return text, policy(text)


def policy(text: str) -> str:
    """Allows a page what is written in it: nothing that slips into it later runs or is shown."""
    scripts, styles = (
        " ".join(_hashed(found) for found in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL))
        for tag in ("script", "style")
    )
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {scripts or chr(39) + 'none' + chr(39)}",
            f"style-src {styles or chr(39) + 'none' + chr(39)}",
            "img-src 'self' blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _hashed(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@cache
def _environment() -> Environment:
    # The report's colours are ours, too.
    loaders = [PackageLoader("apdist.serving"), PackageLoader("apdist.report")]
    return Environment(
        loader=ChoiceLoader(loaders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
