"""Compile the loss's Triton kernels for a GPU that need not be there; run as a module.

    python -m tests.triton_to_ptx

Triton must not be in its interpreter's mode. Prints a line per kernel.
"""

from __future__ import annotations

import re
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from apdist.loss import triton_histogram as histogram
from apdist.loss import triton_kernels as kernels

HOPPER = 90
TYPES = {
    "scores": "*fp32",
    "codes": "*u8",
    "labels": "*i64",
    "ignore": "*i64",
    "slopes": "*fp32",
    "everything": "*fp64",
    "positives": "*fp64",
    "counts": "*i64",
    "high": "fp32",
    "scale": "fp32",
}


def ptx_of(function: Any, num_warps: int = 4, **constants: Any) -> str:
    names = [parameter.name for parameter in function.params]
    signature = {n: "constexpr" if n in constants else TYPES.get(n, "i32") for n in names}
    aligned = [n for n in names if signature[n].startswith("*")]
    attributes = {(names.index(n),): [["tt.divisibility", 16]] for n in aligned}
    source = ASTSource(function, signature, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", HOPPER, 32)
    compiled = triton.compile(source, target=target, options={"num_warps": num_warps})
    assert len(compiled.asm["cubin"]) > 0
    return compiled.asm["ptx"]


def num_atomics(ptx: str) -> int:
    return len(re.findall(r"\b(?:atom|red)\.", ptx))


def main() -> None:
    for num_bins, stride in ((2, "other_stride"), (20, "line_stride"), (255, "other_stride")):
        text = ptx_of(
            kernels.bin_lines,
            histogram.BINNING_WARPS,
            num_bins=num_bins,
            padded_bins=histogram.power_of_two(num_bins),
            include_self=num_bins == 2,
            keep_codes=num_bins != 20,
            lines_at_once=histogram.BINNED_LINES,
            others_at_once=histogram.OTHERS_AT_ONCE,
            **{stride: 1},
        )
        print(f"bin_lines bins={num_bins} atomics={num_atomics(text)}")
    for has_codes in (False, True):
        text = ptx_of(
            kernels.slope_block,
            num_bins=20,
            has_codes=has_codes,
            lines_at_once=histogram.SLOPED_LINES,
            others_at_once=histogram.OTHERS_AT_ONCE,
        )
        print(f"slope_block codes={has_codes} atomics={num_atomics(text)}")


if __name__ == "__main__":
    main()
