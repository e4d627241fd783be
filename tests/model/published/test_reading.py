"""Published models describe as the published code does; what is no published model is refused."""

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from apdist.model.published.published import Given, Published
from apdist.model.published.reading import read_published
from apdist.retrieval.expansion import pool_scales
from tests import published_models as published
from tests.places import ROOT

CASES = json.loads((ROOT / "tests" / "cases" / "published_models.json").read_text())["cases"]


def content_of(case: dict[str, Any]) -> dict[str, Any]:
    """The file of a case, in float64."""
    if "meta" in case:
        return published.cirtorch_content(case["meta"], dtype=torch.float64)
    return published.dirtorch_content(case["model_options"], dtype=torch.float64)


def describe(model: Published, dtype: torch.dtype, images: Tensor) -> Tensor:
    network = model.network().to(dtype)
    network.load_state_dict(model.state)
    with torch.no_grad():
        found: Tensor = network(images.to(dtype))
    return found.double()


DESCRIBED = [case for case in CASES if "dot" in case]
SCALES = (1.0, 0.5**0.5, 2**0.5)


@pytest.mark.parametrize("number", range(len(DESCRIBED)), ids=lambda n: DESCRIBED[n]["id"])
def test_a_model_describes_as_the_published_code_does(number: int) -> None:
    case, images = DESCRIBED[number], published.images()
    content = content_of(case)
    assert sum("num_batches" not in name for name in content["state_dict"]) == case["num_tensors"]
    data = published.saved(content, zipped=number % 2 == 0)  # both formats hold every kind
    model = read_published(data, "it.pth", Given())
    for dtype, atol in ((torch.float64, 1e-9), (torch.float32, 1e-6)):
        found = describe(model, dtype, images)
        expected = torch.tensor(case["descriptor_first_8"], dtype=torch.float64)
        torch.testing.assert_close(found[:, :8], expected, atol=atol, rtol=0)
        assert float(found[0] @ found[1]) == pytest.approx(case["dot"], abs=atol)
        sums = torch.tensor(case["descriptor_sum"], dtype=torch.float64)
        torch.testing.assert_close(found.sum(dim=1), sums, atol=100 * atol, rtol=0)
    if scaled := case.get("multi_scale"):
        at = [F.interpolate(images[:1], scale_factor=scale, mode="bilinear") for scale in SCALES]
        found = torch.stack([describe(model, torch.float64, image) for image in at])
        pooled = pool_scales(found, p=scaled["power"])[0]
        expected = torch.tensor(scaled["first_8"], dtype=torch.float64)
        torch.testing.assert_close(pooled[:8], expected, atol=1e-9, rtol=0)
        assert float(pooled.sum()) == pytest.approx(scaled["sum"], abs=1e-8)
