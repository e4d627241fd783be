"""Which figures a protocol has, and that each is described."""

from __future__ import annotations

import numpy as np

from apdist.data.ground_truth.ground_truth import PROTOCOLS
from apdist.retrieval.protocols.rules import rule
from apdist.retrieval.protocols.scores import FIGURES


def test_every_protocol_has_figures_that_can_be_counted() -> None:
    assert set(FIGURES) == set(PROTOCOLS)
    for keys in FIGURES.values():
        for key in keys:
            assert rule(key)(np.array([0]), 1) == 1.0
