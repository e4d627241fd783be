"""Centres of lists are near what is there, none is empty; an image is where faiss would put it."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from apdist.retrieval.approximate.lists import learned_centres, lists_of
from apdist.retrieval.index import build_index
from apdist.retrieval.ranking import nearest_rows
from tests.retrieval.indexes import clustered, entries, needs_faiss


def test_centres_find_the_groups_that_are_there() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = normalize(torch.randn(8, 16, generator=generator), dim=1)
    noise = 0.05 * torch.randn(400, 16, generator=generator)
    # Where it begins, most of the first images are of one group.
    groups = torch.cat([torch.zeros(20), torch.arange(380) % 8]).long()
    centres = learned_centres(normalize(truth[groups] + noise, dim=1), 8)
    assert torch.equal(centres.norm(dim=1).round(decimals=5), torch.ones(8))
    assert (nearest_rows(truth, centres, 1)[0] > 0.99).all()
    assert sorted(lists_of(truth, centres).tolist()) == list(range(8))


def test_a_list_that_lost_its_images_begins_anew() -> None:
    # Of copies the first list takes all.
    centres = learned_centres(normalize(torch.ones(50, 4), dim=1), 5)
    torch.testing.assert_close(centres.norm(dim=1), torch.ones(5))


@needs_faiss
def test_lists_hold_what_faiss_would_put_there() -> None:
    import faiss

    vectors = clustered(2000, 32)
    for kind in ("ivf", "ivf_pq"):
        index = build_index(vectors, entries(2000), kind=kind, model_id="m")
        assert index.faiss_index is not None
        inner = index.faiss_index.cpu_index
        _, expected = inner.quantizer.search(vectors.numpy(), 1)
        assert inner.ntotal == 2000
        for number in range(inner.nlist):
            size = inner.invlists.list_size(number)
            ids = faiss.rev_swig_ptr(inner.invlists.get_ids(number), size) if size else []
            assert sorted(ids) == (expected[:, 0] == number).nonzero()[0].tolist()
