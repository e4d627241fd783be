"""Lines that Ray's core writes past Python to the terminal, where nobody can act on them."""

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

CORE_LINE = re.compile(rb"\[\d{4}-\d\d-\d\d [\d:,.]+ [A-Z] \d+ \d+\] ")


@contextmanager
def without_core_lines(keep: Callable[[str], None]) -> Iterator[None]:
    """Pass on what the block writes to file descriptor 2; the core's lines go to ``keep``."""
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
            lines = held.readlines()
            core = [line for line in lines if CORE_LINE.match(line)]
            keep(b"".join(core).decode(errors="replace"))
            with suppress(OSError):  # nobody reads there any more
                os.write(2, b"".join(line for line in lines if line not in core))
