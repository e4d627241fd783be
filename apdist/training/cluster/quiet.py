"""Lines that Ray's core writes past Python, to the terminal itself: nobody can act on them."""

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CORE_LINE = re.compile(rb"\[\d{4}-\d\d-\d\d [\d:,.]+ [A-Z] \d+ \d+\] ")


@contextmanager
def without_core_lines() -> Iterator[None]:
    """Pass on what the block writes to file descriptor 2, without the lines of Ray's core."""
    sys.stderr.flush()
    errors = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(errors, 2)
            os.close(errors)
            held.seek(0)
            with suppress(OSError):  # nobody reads there any more
                os.write(2, b"".join(line for line in held if not CORE_LINE.match(line)))
