"""The templates of the report: what a user can name is escaped, what is not given is an error."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from apdist.report.gallery import data_uri


def page_template() -> Template:
    """`templates/page.html`, which includes the others."""
    return template("page.html")


def template(name: str) -> Template:
    """A file of `templates`."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("apdist.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": data_uri, "percent": percent, "signed": signed}
    return environment


def percent(share: float) -> str:
    """A share as CSS wants it."""
    return f"{100 * share:.1f}%"


def signed(change: float, digits: int) -> str:
    """A change with its sign: the true minus is as wide as the plus."""
    sign = "\N{MINUS SIGN}" if change < 0 else "+"
    return f"{sign}{abs(change):.{digits}f}"
