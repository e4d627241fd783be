"""How addresses are shown: without what may be a secret. No other place decides it.

User and password of an address become ``...@``, query and fragment of one of the web ``?...``. What
is written down (config.json, a history, MLflow) has addresses in this form, and `refuse_withheld`
asks for the whole one again before it is used.
"""

import re
from collections.abc import Callable
from typing import Any

_WEB = ("http", "https")
_PARTS = re.compile(r"([a-z][a-z0-9+.-]*):(/{1,2})(.*)", re.IGNORECASE | re.DOTALL)
"""Scheme, slashes and the rest; an address that was taken for a path has lost a slash."""
_USER = re.compile(
    # A password may have a slash in it, as secret keys do; a port is no password.
    r"(?!\.\.\.@)(?:[^/?#]*:[^/?#]*@|(?!\[)[^/:@]*:(?!\d*(?:[/?#]|$)).*@)",
    re.DOTALL,
)
_WEB_USER = re.compile(rf"(?!\.\.\.@)[^/?#]*@|{_USER.pattern}", re.DOTALL)
"""On the web a name alone may be a token."""
_NAMED = re.compile(
    r"([?&;#][\w.%-]*(?:sig|signature|credential|token|passw(?:or)?d|pwd|secret|key|keyid)=)"
    r"(?!\.\.\.)[^\s&\"']+",
    re.IGNORECASE,
)
"""A secret by its name, where no scheme says that an address begins."""
_IN_TEXT = re.compile(
    r"\b[a-z][a-z0-9+.-]*:/{1,2}"
    r"(?:[^\s'\"<>?]*\?\.\.\.(?![\w%&=])"  # as `shown` left it
    r"|(?:[^\s'\"<>]|'(?=[\w%&=+/']))*[^\s'\"<>.,:;)\]}])",
    re.IGNORECASE,
)
_WITHHELD = re.compile(r":/{1,2}(?:\.\.\.@|[^\s]*\?\.\.\.)")


def shown(uri: str) -> str:
    """``uri`` as it may be seen by all: without user, password, query and fragment."""
    found = _PARTS.fullmatch(uri)
    if found is None:
        return uri
    scheme, slashes, rest = found.groups()
    is_web = scheme.lower() in _WEB
    if user := (_WEB_USER if is_web else _USER).match(rest):
        rest = f"...@{rest[user.end() :]}"
    if is_web:
        rest = _without_query(rest)
    return _NAMED.sub(r"\1...", f"{scheme}:{slashes}{rest}")


def _without_query(rest: str) -> str:
    """``rest`` up to its query; a fragment that begins with a slash is the place on a page."""
    place = re.search(r"[?#]", rest)
    if place is None or rest.startswith("#/", place.start()):
        return rest
    return f"{rest[: place.start()]}?..."


def without_secrets(text: str) -> str:
    """``text`` with each address in it as `shown`, whoever wrote it."""
    return _NAMED.sub(r"\1...", _IN_TEXT.sub(lambda found: shown(found[0]), text))


def has_hidden(text: str) -> bool:
    """Whether an address in ``text`` has a part that is not shown, which may be a secret."""
    return any(shown(found[0]) != found[0] for found in _IN_TEXT.finditer(text))


def without_any(value: Any) -> Any:
    """``value``, of JSON, with all text in it as `without_secrets`."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, dict):
        return {name: without_any(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_any(entry) for entry in value]
    return value


def is_withheld(value: Any) -> bool:
    """Whether an option's value, or a part of it, is an address without its secret."""
    if isinstance(value, list | tuple):
        return any(map(is_withheld, value))
    return isinstance(value, str) and _WITHHELD.search(value) is not None


def refuse_withheld(uri: str, error: Callable[[str], Exception] = ValueError) -> None:
    """Refuse an address that was written down without its secret.

    Raises:
        ValueError: it was; or ``error``.
    """
    if is_withheld(uri):
        raise error(
            f"{uri} was written down without its signature or password; give the whole address "
            "again by its option (--data.shards, --shards or the one that named it)"
        )
