"""Load the kernels of the loss from their cache on the disk when imported: half a second.

For a process of which others are forks; a fork has only the thread that forks, so none is started.
"""

import torch

from apdist.loss.listwise import average_precision_loss

torch.set_num_threads(1)
for dtype in (torch.float32, torch.float64):
    descriptors = torch.eye(4, dtype=dtype, requires_grad=True)
    average_precision_loss(descriptors, torch.tensor([0, 0, 1, 1]), backend="numba").backward()
