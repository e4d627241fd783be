"""Compiled functions on machines that forbid their cache."""

from __future__ import annotations

import os
import subprocess
import sys


def test_kernels_compile_where_no_cache_folder_is_writable() -> None:
    code = (
        "from apdist.loss.kernels import numba_types as types\n"
        "function = types.compiled(lambda x: x + 1)\n"
        "assert function(1) == 2\n"
    )
    # A locator that serves zip archives finds no folder for our files.
    environment = os.environ | {"NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator"}
    done = subprocess.run([sys.executable, "-c", code], timeout=100, check=False, env=environment)
    assert done.returncode == 0
