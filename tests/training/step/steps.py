"""Steps for the tests."""

import itertools

from tests.toy import (
    CHUNK_SIZES,
)

MODES = ("recompute", "store", "offload")


CASES = list(itertools.product(("frozen", "chunk"), CHUNK_SIZES, MODES))
