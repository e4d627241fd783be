"""Parameters sharded over the workers (FSDP2), for networks that do not fit one device.

Every pass through a sharded network communicates, so all workers must make equally many. What does
this in torch takes a second to import: that is done when something is to be sharded.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule

# Blocks with fewer parameters than this are gathered with what is around them.
_SMALLEST_UNIT = 1 << 16
_meshes: list[DeviceMesh] = []


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard_parameters` has sharded ``model``."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


def is_sharded_tensor(tensor: Tensor) -> bool:
    """Whether this worker has a part of ``tensor`` only."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """What this worker has of ``tensor``: its shard, or all where it is not sharded."""
    part: Tensor = tensor.to_local() if is_sharded_tensor(tensor) else tensor  # type: ignore[attr-defined]
    return part


def sharded_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A full ``value`` sharded as ``parameter`` is, if it is."""
    if not is_sharded_tensor(parameter):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def shard_parameters(
    model: nn.Module, device: torch.device, num_workers: int, bf16: bool = False
) -> None:
    """Shard the parameters of ``model`` over all workers, block by block, in place.

    Gradients are then summed over the workers in the backward pass, and sharded likewise.

    Args:
        model: to be sharded.
        device: of this worker.
        num_workers: of all.
        bf16: ``model`` only ever runs under bf16 autocast, which rounds the weights of products. In
            blocks these then travel rounded, half the bytes; gradients travel in float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP2 takes no channels-last weights
    mesh = init_device_mesh(device.type, (num_workers,))
    _meshes.append(mesh)
    rounded = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for unit in [*blocks_of(model, _SMALLEST_UNIT), model]:
        layers = _layers_in_bf16(unit) if bf16 and unit is not model else []
        if layers:
            fully_shard(layers, mesh=mesh, mp_policy=rounded)
        if unit not in layers:  # what else it has, such as norms, stays in float32 under autocast
            fully_shard(unit, mesh=mesh)
    for wrapped in _units(model):
        # The loss is divided by the global number of queries already.
        wrapped.set_gradient_divide_factor(1.0)
        wrapped.set_force_sum_reduction_for_comms(True)  # gloo has no other


def compile_blocks(model: nn.Module) -> None:
    """Have torch.compile work on the blocks of ``model``, in place; on all of it where it has none.

    Blocks are small and alike, so that the code of one serves the others: it takes a fraction of
    the time that a whole network takes to compile.
    """
    blocks = [block for block in blocks_of(model, 1) if any(block.children())]
    for block in blocks or [model]:
        block.compile()


@contextmanager
def gathered(model: nn.Module, once: bool) -> Iterator[Callable[[bool], None]]:
    """Gather sharded parameters once for all passes in the block, not anew for each.

    Args:
        model: sharded, or not: then nothing changes.
        once: the full parameters and their gradients fit into memory beside all else; otherwise
            nothing changes either.

    Yields:
        A function that says whether the next backward pass is the last, which sums the gradients.
    """
    units = _units(model) if once else []

    def sum_gradients(is_last: bool) -> None:
        for unit in units:
            unit.set_requires_gradient_sync(is_last, recurse=False)

    def keep(is_kept: bool) -> None:
        for unit in units:
            unit.set_reshard_after_forward(not is_kept, recurse=False)
            unit.set_reshard_after_backward(not is_kept, recurse=False)

    keep(True)
    try:
        yield sum_gradients
    finally:
        keep(False)
        sum_gradients(True)
        for unit in units:
            unit.reshard()


def reshard(model: nn.Module) -> None:
    """Free the full parameters that a pass without gradients has left gathered.

    FSDP2 keeps those of the outermost unit for a backward pass. Whoever reads or writes parameters
    meanwhile would hold memory that is freed later.
    """
    for unit in _units(model):
        unit.reshard()


def _units(model: nn.Module) -> list[FSDPModule]:
    """The modules whose parameters FSDP2 gathers and frees together."""
    return [unit for unit in model.modules() if is_sharded(unit)]  # type: ignore[misc]


def full_bytes(model: nn.Module) -> int:
    """Bytes of the full parameters of a sharded ``model`` and of their gradients."""
    return sum(
        parameter.numel() * parameter.element_size() * (1 + parameter.requires_grad)
        for parameter in model.parameters()
    )


def release_process_groups() -> None:
    """Let `destroy_process_group` end gloo's threads, once no sharded network is used any more.

    torch remembers every mesh for the life of the process, and a mesh its process group, so that
    the threads outlive it. One that still lets go of its last tensor while the interpreter is taken
    down asks for the interpreter's lock, and ends the process by SIGABRT.
    """
    for mesh in _meshes:
        getattr(mesh, "_pg_registry", {}).clear()  # not in every version of torch
    if _meshes:
        _meshes.clear()
        gc.collect()  # networks hold the group as well, and are held in cycles


def _layers_in_bf16(unit: nn.Module) -> list[nn.Module]:
    """The layers whose weights autocast rounds; none where one reaches for another's weights."""
    if any(isinstance(module, nn.MultiheadAttention) for module in unit.modules()):
        return []
    kinds = nn.Linear | nn.modules.conv._ConvNd
    return [module for module in unit.modules() if isinstance(module, kinds)]


def blocks_of(model: nn.Module, least: int) -> list[nn.Module]:
    """The largest blocks of ``least`` parameters, members of lists of layers; none in another."""
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in model.modules():
        if module in inside or not isinstance(module, nn.Sequential | nn.ModuleList):
            continue
        for block in module.children():
            if isinstance(block, nn.Sequential | nn.ModuleList):
                continue
            if sum(p.numel() for p in block.parameters()) >= least:
                found.append(block)
                inside.update(block.modules())
    return found


def full_tensor(value: Any) -> Tensor:
    """A plain tensor from one that may be sharded over the workers; all must call it."""
    tensor: Tensor = value.full_tensor() if is_sharded_tensor(value) else value
    return tensor
