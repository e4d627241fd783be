"""Images sorted by class and by ignore id."""

import torch

from apdist.loss.kernels.numba_hits import groups_of
from apdist.loss.tiles import Pairs


def test_each_image_finds_its_class_and_its_junk_in_the_order() -> None:
    labels, ignore = torch.tensor([4, 1, 4, 1, 1]), torch.tensor([-1, 7, 7, -1, 7])
    class_order, start, stop, junk_order, junk_start, junk_stop, _ = groups_of(
        Pairs(labels, ignore, False, has_junk=True)
    )
    for i in range(5):
        same = (labels == labels[i]).nonzero()[:, 0].tolist()
        assert class_order[start[i] : stop[i]].tolist() == same
        junk = (ignore == ignore[i]).nonzero()[:, 0].tolist() if ignore[i] >= 0 else []
        assert junk_order[junk_start[i] : junk_stop[i]].tolist() == junk
