"""JSON that others wrote: whatever is wrong with it is a ValueError."""

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """What ``text`` says.

    Raises:
        ValueError: it is no JSON, no UTF-8, or nested deeper than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("brackets are nested too deep", "", 0) from None
