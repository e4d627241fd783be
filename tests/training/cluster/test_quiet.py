"""What Ray's core writes past Python."""

import os

import pytest

from apdist.training.cluster.quiet import without_core_lines

CORE = (
    b"[2026-11-26 23:17:36,299 E 23339 23339] core_worker.cc:2465: Actor with class name: 'A'\n",
    b"[2026-11-26 23:19:09,411 I 24329 24329] logging.cc:303: Set ray log level from environment\n",
)


def test_lines_of_the_core_are_left_out_and_others_come_through(
    capfd: pytest.CaptureFixture[str],
) -> None:
    kept: list[str] = []
    with without_core_lines(kept.append):
        for line in (CORE[0], b"no such node\n", CORE[1], b"[2026] is a year"):
            os.write(2, line)
    os.write(2, b", and this is after it\n")
    assert capfd.readouterr().err == "no such node\n[2026] is a year, and this is after it\n"
    assert kept == [b"".join(CORE).decode()]


def test_an_error_in_the_block_leaves_the_stream_as_it_was(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match="no cluster"), without_core_lines(print):
        raise ValueError("no cluster")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
