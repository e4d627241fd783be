"""Tables of variant "ap" in one launch, against those of plain torch."""

import dataclasses

import pytest
import torch

from apdist.config.loss import LossOptions
from apdist.loss.batch import checked_batch
from apdist.loss.gradient import cumulative_histograms
from apdist.loss.kernels.available import has_triton
from apdist.loss.precision import tables_of
from tests.reference import unit_rows

pytestmark = pytest.mark.skipif(not has_triton(), reason="triton is not installed")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("num_bins", "rows"), [(20, slice(0, 45)), (2, slice(7, 40))])
def test_one_launch_gives_the_tables_of_plain_torch(num_bins: int, rows: slice) -> None:
    from apdist.loss.kernels.triton_tables import tables_of_ap

    labels = torch.arange(45, device=DEVICE) % 9 * (torch.arange(45, device=DEVICE) < 40)
    labels[44] = 99  # alone
    descriptors = unit_rows(45, 5, seed=0, dtype=torch.float32).to(DEVICE)
    weights = torch.linspace(0.1, 2, 45, dtype=torch.float64, device=DEVICE)
    options = LossOptions(num_bins=num_bins, backend="tiled")
    batch = checked_batch(descriptors, labels, None, weights, options)
    histograms, _ = cumulative_histograms(batch, rows)
    squares = torch.ones(rows.stop - rows.start, device=DEVICE)
    squares[3] = 1.5  # too long
    histograms = dataclasses.replace(histograms, squares=squares)
    found, expected = tables_of_ap(histograms, batch, rows), tables_of(histograms, batch, rows)
    for name in ("averages", "counted", "sums"):
        pair = getattr(found, name), getattr(expected, name)
        torch.testing.assert_close(*pair, rtol=0, atol=1e-10, equal_nan=True)
    torch.testing.assert_close(found.slopes, expected.slopes.float(), rtol=1e-5, atol=1e-7)
    assert expected.sums[6] == 1
