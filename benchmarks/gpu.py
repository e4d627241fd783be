"""Every figure of apdist on a GPU, in one command: tables, and a line of JSON for each figure.

    python benchmarks/gpu.py --budget 300 --json figures.jsonl
    python benchmarks/gpu.py --only gradients loss
    python benchmarks/gpu.py --dry

Each check is caught by itself, and left out where the rest of the budget is shorter than half of
what it may take. ``--dry`` runs the same code on a CPU with small batches: it shows that nothing is
broken, its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from pathlib import Path
from typing import Any

import gpu_loss
import gpu_rooms
import gpu_step
import torch
from gpu_figures import Check, Figure, Setting

CHECKS = [*gpu_loss.CHECKS, *gpu_step.CHECKS, *gpu_rooms.CHECKS]


def main() -> int:
    arguments = parsed()
    setting = Setting(arguments.dry)
    start, failed, figures = time.monotonic(), 0, []
    for check in CHECKS:
        if arguments.only and check.name not in arguments.only:
            continue
        left = arguments.budget - (time.monotonic() - start)
        if left < check.seconds / 2:
            figures.append(Figure(check.name, {}, {"left out": f"{left:.0f} s left"}))
            continue
        began = time.monotonic()
        for figure in figures_of(check, setting):
            failed += "failed" in figure.found
            figures.append(figure)
            record(figure, arguments.json)
        print(f"# {check.name}: {time.monotonic() - began:.1f} s", flush=True)
        setting.forget()
    print_tables(figures)
    return 1 if failed else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--budget", type=float, default=300, help="seconds for all checks")
    parser.add_argument("--only", nargs="+", choices=[check.name for check in CHECKS])
    parser.add_argument("--dry", action="store_true", help="small batches on a CPU")
    parser.add_argument("--json", type=Path, help="file to append a line for each figure to")
    arguments = parser.parse_args()
    if not arguments.dry and not torch.cuda.is_available():
        parser.error("no CUDA device is visible; use --dry to try the checks on a CPU")
    return arguments


def figures_of(check: Check, setting: Setting) -> Any:
    """The figures of a check; a failure is one of them."""
    try:
        yield from check.work(setting)
    except Exception as error:  # whatever it is, the other checks go on
        where = traceback.format_exc().splitlines()[-3].strip()
        yield Figure(check.name, {}, {"failed": f"{type(error).__name__}: {error}"[:300] + where})


def record(figure: Figure, file: Path | None) -> None:
    """Print a figure as it comes, and append it to ``file``."""
    line = json.dumps({"check": figure.check, **figure.case, **figure.found})
    print(line, flush=True)
    if file is not None:
        with file.open("a") as lines:
            lines.write(line + "\n")


def print_tables(figures: list[Figure]) -> None:
    """A table for each check, its columns what its figures have."""
    for name in dict.fromkeys(figure.check for figure in figures):
        rows = [figure.case | figure.found for figure in figures if figure.check == name]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        print(f"\n{name}\n")
        print(f"| {' | '.join(columns)} |")
        print(f"|{'---|' * len(columns)}")
        for row in rows:
            print(f"| {' | '.join(str(row.get(column, '')) for column in columns)} |")


if __name__ == "__main__":
    raise SystemExit(main())
