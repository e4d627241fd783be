"""A traced network as an ONNX file, and such files run.

Shapes: n images, h x w pixels, k descriptor size.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.export import ExportedProgram

from apdist.config.extras import install
from apdist.export.tracing import first_line, quiet

NAME = "model.onnx"
INPUT, OUTPUT = "pixels", "descriptors"
OPSET = 18
"""Of ONNX's operators, the oldest that torch's exporter writes: most runtimes know it."""
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_LARGEST_FILE_BYTES = 1_800_000_000
"""A file of protocol buffers ends at 2 GiB; weights of more lie beside it."""
_UNKNOWN = re.compile(r"call_function\[target=(?:torch\.ops\.)?([\w.<> ]+)\]")
"""How torch.onnx names the operator that it fails at."""


def refuse_without_onnx() -> None:
    """Refuse to go on without the packages that this needs.

    Raises:
        ValueError: one is not, with how to get it.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"ONNX needs {', '.join(missing)}, not installed here: {install('onnx')}")


def write_onnx(program: ExportedProgram, path: Path, about: Mapping[str, str]) -> None:
    """Write ``program`` to ``path``; ``about`` is kept in the file, by name.

    Raises:
        ValueError: a package is missing, or ONNX has no operator for something in it.
    """
    refuse_without_onnx()
    import torch

    try:
        with quiet():
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
            )
    except Exception as error:  # the exporter's own, of every kind
        operator = unknown_operator(error)
        what = f"has nothing for {operator}" if operator else f"failed ({first_line(error)})"
        raise ValueError(
            f"ONNX cannot hold this network: torch.onnx {what}; use --to torch, or train another "
            "pooling or backbone"
        ) from error
    model = made.model
    _name_sizes(model, program)
    model.metadata_props.update(about)
    num_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    with quiet():
        made.save(str(path), external_data=num_bytes > _LARGEST_FILE_BYTES)


def unknown_operator(error: BaseException) -> str:
    """The operator that torch.onnx could not translate, by the causes of an error; or nothing."""
    cause: BaseException | None = error
    while cause is not None:
        if found := _UNKNOWN.search(str(cause)):
            return found[1]
        cause = cause.__cause__
    return ""


class OnnxModel:
    """An ONNX file that this package wrote, run on the CPU.

    Args:
        path: of the file.

    Raises:
        ValueError: onnxruntime is missing, or cannot run the file.
    """

    def __init__(self, path: Path) -> None:
        refuse_without_onnx()
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ValueError(f"onnxruntime cannot run {path} ({first_line(error)})") from error

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Describe ``pixels`` (n, h, w, 3) as (n, k)."""
        (found,) = self._session.run([OUTPUT], {INPUT: pixels})
        described: NDArray[np.float32] = found
        return described


def _name_sizes(model: Any, program: ExportedProgram) -> None:
    """Call the sizes that vary n, height and width where the file has torch's own symbols."""
    from onnx_ir import Shape

    (pixels,) = (
        node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs
    )
    own = zip(pixels.meta["val"].shape, ("n", "height", "width", "3"), strict=True)
    names: dict[Any, str] = {str(size): name for size, name in own if not isinstance(size, int)}
    for value in _values(model.graph):
        if value.shape is not None:
            # A size without a name stays so: of one name for all onnxruntime would share buffers.
            value.shape = Shape(
                [names.get(getattr(size, "value", None), size) for size in value.shape.dims]
            )


def _values(graph: Any) -> Iterator[Any]:
    yield from graph.inputs
    for node in graph.all_nodes():
        yield from node.outputs
