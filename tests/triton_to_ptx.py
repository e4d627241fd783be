"""Compile the loss's Triton kernels for a GPU that need not be there; run as a module.

    python -m tests.triton_to_ptx

Triton must not be in its interpreter's mode. Prints a line of JSON per kernel. What is counted are
instructions of the machine code for sm_90, as ``nvdisasm`` prints them:

- ``instructions a score``: of a kernel with a loop over scores, those from the target of its last
  branch up to that branch, of the innermost loop with the most of them; of one without, those on
  the way of a whole block with nothing but negatives, from the start to its last store. Divided by
  the scores that a thread handles on the way. Loads, addresses and the branch itself count.
- ``barriers``: those on that way.
- ``spilled``: accesses to memory that stands in for registers.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from apdist.loss.kernels import triton_axis as axis
from apdist.loss.kernels import triton_binning as binning
from apdist.loss.kernels import triton_histogram as histogram
from apdist.loss.kernels import triton_sloping as sloping
from apdist.loss.kernels import triton_tables as tables

HOPPER = 90
WARP = 32
TYPES = {
    "scores": "*fp32",
    "change": "*fp32",
    "low_change": "*fp32",
    "slopes": "*fp32",
    "codes": "*u8",
    "related": "*u8",
    "labels": "*i64",
    "ignore": "*i64",
    "counts": "*i64",
    "squares": "*fp32",
    "everything": "*fp64",
    "positives": "*fp64",
    "high": "fp32",
    "scale": "fp32",
}
INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+\s+)?([A-Z][\w.]*)(.*)$")
LABEL = re.compile(r"^\s*(\.L\w+):")


def compiled(function: Any, types: dict[str, str], num_warps: int, **constants: Any) -> Any:
    names = [parameter.name for parameter in function.params]
    types = TYPES | types
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    # What Triton finds out at a launch: torch's memory is aligned, and so are rows of scores.
    aligned = [n for n in names if signature[n].startswith("*") or n == "stride"]
    attributes = {(names.index(n),): [["tt.divisibility", 16]] for n in aligned}
    source = ASTSource(function, signature, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", HOPPER, WARP)
    return triton.compile(source, target=target, options={"num_warps": num_warps} | axis.CONTRACTED)


def machine_code(kernel: Any) -> list[tuple[str, str]]:
    """(operation, operands) of each instruction; ("", name) for a label."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [str(tool), "-c", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    code = []
    for line in text.splitlines():
        if label := LABEL.match(line):
            code.append(("", label[1]))
        elif instruction := INSTRUCTION.match(line):
            code.append((instruction[1], instruction[2]))
    return code


def innermost_loops(code: list[tuple[str, str]]) -> list[list[str]]:
    """Operations of each loop that has none inside, without ones that do nothing."""
    at = {name: place for place, (operation, name) in enumerate(code) if not operation}
    spans = []
    for place, (operation, operands) in enumerate(code):
        found = re.search(r"`\((\.L\w+)\)", operands)
        # The last branch of a kernel jumps to itself.
        if operation == "BRA" and found and at[found[1]] < place - 1:
            spans.append((at[found[1]], place))
    inner = [a for a in spans if not any(a != b and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    return [[o for o, _ in code[first : last + 1] if o and o != "NOP"] for first, last in inner]


def first_way(code: list[tuple[str, str]]) -> list[str]:
    """Operations up to the end of the first part without a label or a branch that stores."""
    way: list[str] = []
    for operation, _ in code:
        if operation in ("", "BRA", "EXIT"):
            if any(earlier.startswith("STG") for earlier in way):
                break
        elif operation != "NOP":
            way.append(operation)
    return way


def report(name: str, kernel: Any, scores: int, *, has_loop: bool = True) -> None:
    code = machine_code(kernel)
    way = max(innermost_loops(code), key=len, default=[]) if has_loop else first_way(code)
    print(
        json.dumps(
            {
                "kernel": name,
                "atomics": len(re.findall(r"\b(?:atom|red)\.", kernel.asm["ptx"])),
                "instructions a score": len(way) / scores,
                "barriers": sum(operation.startswith("BAR") for operation in way),
                "spilled": sum(operation.startswith(("LDL", "STL")) for operation, _ in code),
            }
        )
    )


def scores_a_thread(block: dict[str, int]) -> int:
    rows = block["rows_at_once"] * block.get("loads_at_once", 1)
    return rows * block["columns_at_once"] // (WARP * block["num_warps"])


def main() -> None:
    bins: dict[str, Any] = {"num_bins": 20}
    parts = bins | {"bins_at_once": histogram.bins_of_programs(20)[1]}
    for keep_codes in (False, True):
        found = compiled(binning.bin_rows, {}, **parts, keep_codes=keep_codes, **histogram.ROWS)
        report(f"bin_rows bins=20 codes={keep_codes}", found, scores_a_thread(histogram.ROWS))
    found = compiled(binning.bin_columns, {}, **parts, **histogram.COLUMNS)
    report("bin_columns bins=20", found, scores_a_thread(histogram.COLUMNS))
    for halves in (False, True):
        types = {"change": "*bf16", "low_change": "*bf16"} if halves else {}
        choice = {"has_codes": not halves, "halves": halves}
        found = compiled(sloping.slope_block, types, **bins, **choice, **histogram.SLOPES)
        name = f"slope_block halves={halves}"
        report(name, found, scores_a_thread(histogram.SLOPES), has_loop=False)
    padded = bins | {"padded_bins": histogram.power_of_two(20)}
    found = compiled(binning.bin_related, {}, **padded, include_self=False, **histogram.RELATED)
    report("bin_related bins=20", found, 1)
    types = dict.fromkeys(("weights", "averages", "counted", "sums"), "*fp64")
    types |= dict.fromkeys(("bins_a_score", "least_square", "largest_square"), "fp32")
    rows = {"num_scalars": 7, "rows_at_once": tables.rows_of_programs(padded["padded_bins"])}
    found = compiled(tables.fill_tables, types, 4, **padded, **rows, has_weights=False)
    report("fill_tables bins=20", found, 1)
    integers = dict.fromkeys(("labels", "ignore", "row_ranges", "column_ranges"), "*i32")
    side = histogram.RELATED["side"]
    found = compiled(axis.mark_related, integers, 4, has_ranges=True, has_junk=False, side=side)
    report("mark_related", found, 1)


if __name__ == "__main__":
    main()
