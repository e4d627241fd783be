"""Reports for the tests, and a reader of pages."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import torch
from PIL import Image

from apdist.report.report import (
    RankedImage,
    RankedQuery,
    Report,
)
from apdist.retrieval.metrics import RetrievalScores, score_labelled

HOSTILE = "<script>alert(\"1\")</script> & '青リンゴ'"
VOID = {"meta", "img"}


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


def picture(colour: str, image_format: str = "PNG", size: tuple[int, int] = (20, 12)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, format=image_format)
    return buffer.getvalue()


def scores(spread: float) -> RetrievalScores:
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(60) // 4
    points = torch.randn(15, 8, generator=generator)[labels]
    points = points + spread * torch.randn(60, 8, generator=generator)
    return score_labelled(torch.nn.functional.normalize(points, dim=1), labels)


def ranked_query(label: str = "apple", group: str = "") -> RankedQuery:
    results = (
        RankedImage(image=picture("red"), label=label, score=0.91, is_hit=True, key="a/1.png"),
        RankedImage(
            image=picture("blue", "JPEG"), label="pear", score=0.42, is_hit=False, key="p/1.jpg"
        ),
    )
    return RankedQuery(
        image=picture("green"),
        label=label,
        key="a/0.png",
        average_precision=0.583,
        results=results,
        group=group,
    )


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
        gallery=(ranked_query(label, "Worst queries"), ranked_query("plum", "Best queries")),
        facts={"training time": "1 min 52 s", label: label},
        next_commands=((f"Search for {label}", f"apdist search {label}"),),
    )
