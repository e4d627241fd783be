"""Parameters divided over the workers (FSDP2), for networks that do not fit one device.

Every pass through a sharded network communicates, so all workers must make equally many.
"""

import gc
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

# Parts with fewer parameters travel with what is around them.
_SMALLEST_UNIT = 1 << 16
_meshes: list[DeviceMesh] = []


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard_parameters` has divided ``model``."""
    return isinstance(model, FSDPModule)


def shard_parameters(model: nn.Module, device: torch.device, num_workers: int) -> None:
    """Divide the parameters of ``model`` over all workers, block by block, in place.

    Gradients are then summed over the workers in the backward pass, and divided likewise.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.contiguous()  # FSDP2 takes no channels-last weights
    mesh = init_device_mesh(device.type, (num_workers,))
    _meshes.append(mesh)
    for unit in [*_units(model), model]:
        fully_shard(unit, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # The loss is divided by the global number of queries already.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no other


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


def _units(model: nn.Module) -> list[nn.Module]:
    """The largest blocks: members of lists of layers, none inside another."""
    found: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in model.modules():
        if module in inside or not isinstance(module, nn.Sequential | nn.ModuleList):
            continue
        for block in module.children():
            if isinstance(block, nn.Sequential | nn.ModuleList):
                continue
            if sum(p.numel() for p in block.parameters()) >= _SMALLEST_UNIT:
                found.append(block)
                inside.update(block.modules())
    return found


def whole(value: Any) -> Tensor:
    """A plain tensor from one that may be divided over the workers; all must call it."""
    tensor: Tensor = value.full_tensor() if isinstance(value, DTensor) else value
    return tensor
