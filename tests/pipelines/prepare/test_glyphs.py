"""`apdist prepare glyphs`."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.data.preparing.test_encoding import APDIST, DEADLINE_S, until
from tests.places import ROOT


def test_sigterm_ends_preparing_like_ctrl_c(tmp_path: Path) -> None:
    command = ["prepare", "glyphs", "--out", str(tmp_path / "out"), "--processes", "2"]
    with subprocess.Popen(
        [sys.executable, "-c", APDIST, *command],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            until(lambda: (tmp_path / "out").exists() and any((tmp_path / "out").iterdir()))
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 130
    assert re.fullmatch(r"apdist: stopped; nothing was written to \S+\n", err)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
