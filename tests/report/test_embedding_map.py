"""The map: which images, where, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from apdist.report.embedding_map import HEIGHT, MARGIN, WIDTH, MapImage, choose_images, draw_map
from tests.report.pages import Page, named, rendered, report


def images(count: int) -> list[MapImage]:
    return [
        MapImage(**named("red", f"{n}", f"class {n % 3}", n % 3), row=n, average_precision=None)
        for n in range(count)
    ]


def test_all_images_are_chosen_where_there_is_room_else_whole_classes() -> None:
    labels = np.repeat(np.arange(100), 30)[np.random.default_rng(0).permutation(3000)]
    assert choose_images(labels, [], 3000) == list(range(3000))
    chosen = choose_images(labels, [77], 200)
    assert len(chosen) == 200
    assert chosen == sorted(set(chosen))
    classes, counts = np.unique(labels[chosen], return_counts=True)
    assert 77 in classes
    assert counts.tolist() == [20] * 10
    assert classes.max() - classes.min() > 60  # spread over all of them


def test_dots_lie_within_the_drawing_by_class() -> None:
    drawn = draw_map(
        torch.randn(30, 6, generator=torch.Generator().manual_seed(1)), images(30), 90, 7
    )
    assert drawn is not None
    assert drawn.method == "t-SNE"
    assert [island.label for island in drawn.islands] == ["class 0", "class 1", "class 2"]
    assert len({island.hue for island in drawn.islands}) == 3
    dots = [dot for island in drawn.islands for dot in island.dots]
    assert len(dots) == 30
    assert all(MARGIN <= dot.x <= WIDTH - MARGIN for dot in dots)
    assert all(MARGIN <= dot.y <= HEIGHT - MARGIN for dot in dots)
    spans = [max(c) - min(c) for c in zip(*((dot.x, dot.y) for dot in dots), strict=True)]
    assert spans[0] > WIDTH - 2 * MARGIN - 1 or spans[1] > HEIGHT - 2 * MARGIN - 1


def test_fewer_than_two_images_have_no_map_and_few_have_that_of_pca() -> None:
    assert draw_map(torch.eye(1), images(1), 1, 1) is None
    few = draw_map(torch.eye(4), images(4), 4, 3)
    assert few is not None
    assert few.method == "PCA"
    alike = draw_map(torch.ones(9, 3), images(9), 9, 3)
    assert alike is not None
    assert {(d.x, d.y) for i in alike.islands for d in i.dots} == {(WIDTH / 2, HEIGHT / 2)}


def test_the_page_says_what_the_map_is_and_how_much_it_leaves_out() -> None:
    words = " ".join(Page(rendered(report())).words.split())
    assert "All 4 images; a dot is an image" in words
    assert "Drawn by PCA" in words
    large = draw_map(torch.eye(9), images(9), 5_000, 70)
    words = " ".join(Page(rendered(replace(report(), map=large))).words.split())
    assert "9 of 5,000 images, of 3 of 70 classes; a dot is" in words
    assert "What the map does not tell: how far apart two groups are" in words


def test_a_dot_leads_to_its_query_or_else_to_its_class() -> None:
    page = Page(rendered(report()))
    dots = [link for link in page.attributes("a") if "data-pic" in link]
    assert [dot["href"] for dot in dots] == ["#q0", "#c0", "#c1", "#q3"]
    assert [dot.get("class") for dot in dots] == ["ring", None, None, "ring"]
    assert {dot["data-key"] for dot in dots} == {f"key-{n}.png" for n in range(4)}
