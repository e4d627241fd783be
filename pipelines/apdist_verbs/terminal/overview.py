"""Names and what they are, in two columns: what is listed before a verb or a preset is chosen."""

import shutil
import textwrap
from collections.abc import Mapping

NARROWEST = 40
"""Columns below which a terminal folds lines by itself."""


def two_columns(rows: Mapping[str, str], first: int) -> str:
    """Lines of ``rows``, the second column ``first`` + 2 from the left, within the terminal."""
    width = max(NARROWEST, shutil.get_terminal_size().columns)
    return "\n".join(
        textwrap.fill(
            text,
            width,
            initial_indent=f"  {name:<{first}}",
            subsequent_indent=" " * (first + 2),
            break_on_hyphens=False,
        )
        for name, text in rows.items()
    )
