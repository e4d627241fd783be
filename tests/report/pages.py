"""Reports for the tests, and a reader of pages."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import torch
from PIL import Image

from apdist.report.classes import Confusion, class_figures, class_table, confused_pairs
from apdist.report.embedding_map import MapImage, draw_map
from apdist.report.pictures import Picture
from apdist.report.report import (
    RankedImage,
    RankedQuery,
    Report,
    render_report,
)
from apdist.retrieval.metrics import RetrievalScores, score_labelled

HOSTILE = "<script>alert(\"1\")</script> & '青リンゴ'"
VOID = {"meta", "input", "wbr"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the tests ask about."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + "\n"

    def attributes(self, wanted: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == wanted]


def picture(colour: str, size: tuple[int, int] = (20, 12)) -> Image.Image:
    return Image.new("RGB", size, colour)


def named(colour: str, name: str, label: str, label_id: int = 0) -> dict[str, Any]:
    """What a picture is made of; its key is that of its file."""
    about = {"name": name, "key": f"key-{name}", "label": label, "label_id": label_id}
    return {"image": picture(colour), **about}


def scores(spread: float) -> RetrievalScores:
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(60) // 4
    points = torch.randn(15, 8, generator=generator)[labels]
    points = points + spread * torch.randn(60, 8, generator=generator)
    return score_labelled(torch.nn.functional.normalize(points, dim=1), labels)


def ranked_query(label: str = "apple", group: str = "", row: int = 0) -> RankedQuery:
    results = (
        RankedImage(**named("red", "a/1.png", label), score=0.91, is_hit=True),
        RankedImage(**named("blue", "p/1.jpg", "pear", 1), score=0.42, is_hit=False),
    )
    return RankedQuery(
        **named("green", "a/0.png", label),
        average_precision=0.583,
        results=results,
        row=row,
        before=0.75,
        group=group,
    )


def rendered(shown: Report) -> str:
    """The page alone."""
    return render_report(shown)[0]


def parts_of_classes(label: str = "apple") -> dict[str, Any]:
    """Two classes, each with two images: table, confusions and map."""
    labels, names = np.array([0, 0, 1, 1]), {0: label, 1: "pear"}
    precision, before = np.array([0.2, 0.6, 1.0, 1.0]), np.array([0.5, 0.5, 0.5, 0.5])
    pairs = confused_pairs(labels, precision, np.array([2, 0, 3, 2]))
    figures = class_figures(labels, names, precision, before, pairs)
    confusion = Confusion(
        label=0,
        name=label,
        other=1,
        other_name="pear",
        count=1,
        num_queries=2,
        query=Picture(**named("green", "a/0.png", label)),
        result=Picture(**named("blue", "p/1.jpg", "pear", 1)),
    )
    images = [
        MapImage(**named("green", f"{n}.png", names[n // 2], n // 2), row=n, average_precision=0.5)
        for n in range(4)
    ]
    return {
        "classes": class_table(figures, names, num_each=200, also=()),
        "confusions": (confusion,),
        "map": draw_map(torch.eye(4), images, 4, 2),
    }


def report(label: str = "apple") -> Report:
    return Report(
        title=f"Run of {label}",
        summary=f"Found {label}.",
        settings={"loss.num-bins": "20", "data.shards": label},
        before=scores(3.0),
        after=scores(0.4),
        history=[
            {"step": t, "loss": 1 / t, "binned_map": 1 - 1 / t, "images_per_s": 900.0}
            for t in range(1, 30)
        ],
        evaluations=[
            {"split": label, "step": 30, "map": 0.5},
            *(
                {"split": "holdout", "step": t}
                | {"map": t / 40, "recall_at_1": t / 35, "r_precision": t / 50}
                for t in (0, 10, 20, 30)
            ),
        ],
        sets=[
            {"name": label, "protocol": "revisited", "data": "abc", "num_queries": 70}
            | {"step": t, "of_step": of_step, "medium/map_trapezoid": 0.5 - t / 100}
            | {"medium/precision_at_1": 0.5 + t / 100}
            for t, of_step in ((0, -1), (10, -1), (30, 20))
        ],
        similarities=[
            {"step": t, "centres": [1.0, 0.0, -1.0], "positive": [t / 9, 1 - t / 9, 0.0]}
            | {"negative": [0.0, 0.5, 0.5]}
            for t in (1, 5, 8)
        ],
        notices=(f"mAP of {label} fell",),
        gallery=(
            ranked_query(label, "Worst queries"),
            ranked_query("plum", "Best queries", row=3),
        ),
        **parts_of_classes(label),
        facts={"training time": "1 min 52 s", label: label},
        next_commands=((f"Search for {label}", f"apdist search {label}"),),
        max_bytes=3_000_000,
    )
