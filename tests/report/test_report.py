"""The report: what it shows, that it is self-contained and well formed, charts and the picture."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from jinja2 import UndefinedError
from PIL import Image

from apdist.report.charts import Chart, Series, draw, nice_ticks, smooth, thin_out
from apdist.report.page import page_template
from apdist.report.report import (
    RankedImage,
    RankedQuery,
    Report,
    choose_queries,
    render_report,
    write_gallery_png,
    write_report,
)
from apdist.retrieval.metrics import RetrievalScores, score_labelled
from tests.places import ROOT

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
            {"step": t, "map": t / 40, "recall_at_1": t / 35, "r_precision": t / 50}
            for t in (0, 10, 20, 30)
        ],
        similarities=[
            {"step": t, "centres": [1.0, 0.0, -1.0], "positive": [t / 9, 1 - t / 9, 0.0]}
            | {"negative": [0.0, 0.5, 0.5]}
            for t in (1, 5, 8)
        ],
        gallery=(ranked_query(label, "Worst queries"), ranked_query("plum", "Best queries")),
        facts={"training time": "1 min 52 s", label: label},
        next_commands=((f"Search for {label}", f"apdist search {label}"),),
    )


def test_the_page_shows_figures_settings_facts_and_commands() -> None:
    shown = report()
    page = Page(render_report(shown))
    assert shown.before is not None
    for expected in (
        "Run of apple",
        "Found apple.",
        f"{shown.after.mean_average_precision:.3f}",
        f"{shown.after.mean_average_precision:.4f}",
        f"{shown.before.recall_at[1]:.4f}",
        "loss.num-bins",
        "1 min 52 s",
        "apdist search apple",
        "Precision and recall",
        "Loss",
        "Binned mAP",
        "Evaluation",
        "Throughput",
        "Worst queries",
        "0.583",
        "0.910",
        "60 queries counted. mAP@k divides by min(k, number of positives).",
    ):
        assert expected in page.words


def test_every_text_is_escaped_wherever_a_user_can_put_one() -> None:
    rendered = render_report(report(HOSTILE))
    page = Page(rendered)
    assert page.attributes("script") == []
    assert "<script" not in rendered
    assert HOSTILE in page.words
    assert {image["alt"] for image in page.attributes("img")} >= {f"Query: {HOSTILE}"}


def test_every_text_of_a_report_is_escaped_one_by_one() -> None:
    """Those that a page shows but `report` does not make hostile, and attributes among them."""
    hostile = '"><b onclick=x>&'
    shown = report()
    query = replace(shown.gallery[0], label=hostile, key=hostile, group=hostile)
    result = replace(query.results[0], label=hostile, key=hostile)
    changes: list[dict[str, Any]] = [
        {"title": hostile},
        {"summary": hostile},
        {"settings": {hostile: hostile}},
        {"facts": {hostile: hostile}},
        {"next_commands": ((hostile, hostile),)},
        {"gallery": (replace(query, results=(result,)),)},
    ]
    for change in changes:
        rendered = render_report(replace(shown, **change))
        page = Page(rendered)
        assert not [
            tag for tag, attributes in page.tags if tag == "b" and attributes.get("onclick")
        ]
        assert rendered.count("onclick") == rendered.count("&#34;&gt;&lt;b onclick=x&gt;&amp;") > 0


def test_no_template_puts_a_text_on_the_page_as_it_is() -> None:
    templates = sorted((ROOT / "apdist" / "report" / "templates").glob("*.html"))
    assert templates
    for template in templates:
        found = re.findall(r"\|\s*safe\b|autoescape|xmlattr|Markup", template.read_text())
        assert not found, template


def test_a_template_that_asks_for_what_it_is_not_given_fails() -> None:
    with pytest.raises(UndefinedError, match="'report' is undefined"):
        page_template().render()


def test_names_that_are_not_valid_unicode_do_not_stop_the_page(tmp_path: Path) -> None:
    write_report(report("caf\udce9"), tmp_path / "report.html")
    assert "caf?" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside_itself() -> None:
    rendered = render_report(report())
    page = Page(rendered)
    sources = [a[n] for _, a in page.tags for n in ("src", "href", "data") if n in a]
    assert sources
    assert all(source is not None and source.startswith("data:image/") for source in sources)
    assert "url(" not in rendered
    assert "@import" not in rendered
    assert re.findall(r"https?://", rendered) == []


def test_images_are_embedded_as_they_are() -> None:
    rendered = render_report(report())
    encoded = base64.b64encode(picture("blue", "JPEG")).decode()
    assert f"data:image/jpeg;base64,{encoded}" in rendered


def test_hits_and_misses_differ_in_more_than_colour() -> None:
    page = Page(render_report(report()))
    alternatives = [image["alt"] for image in page.attributes("img")]
    assert "Result 1, hit: apple" in alternatives
    assert "Result 2, miss: pear" in alternatives
    assert page.words.count("✓") == 1 + 2  # the legend and two queries
    assert page.words.count("✗") == 1 + 2


def test_every_image_and_chart_has_a_text_and_every_column_a_header() -> None:
    page = Page(render_report(report()))
    assert all(image.get("alt") for image in page.attributes("img"))
    charts = [svg for svg in page.attributes("svg") if svg.get("role") == "img"]
    assert len(charts) == 7
    assert all(chart["aria-label"] for chart in charts)
    assert "Loss, over step: Loss from 1 at 1 to" in str(charts[3]["aria-label"])
    assert all(header.get("scope") in ("col", "row") for header in page.attributes("th"))


def test_a_report_without_before_history_and_gallery_is_a_whole_page() -> None:
    bare = replace(
        report(),
        before=None,
        history=[],
        evaluations=[],
        similarities=[],
        gallery=(),
        facts={},
        next_commands=(),
    )
    page = Page(render_report(bare))
    assert len([svg for svg in page.attributes("svg") if svg.get("role") == "img"]) == 2
    assert "Queries and their results" not in page.words
    assert "Go on from here" not in page.words


def test_queries_left_out_are_told() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    after = score_labelled(torch.eye(5), labels)
    page = Page(render_report(replace(report(), before=None, after=after)))
    assert "4 queries counted, 1 left out" in page.words


def test_values_that_are_not_finite_are_not_drawn() -> None:
    history = [{"step": t, "loss": math.nan if t == 3 else 1.0 / t} for t in range(1, 9)]
    rendered = render_report(replace(report(), history=history))
    assert "nan" not in rendered.lower().split("</style>")[1].split("gallery")[0]
    assert "Binned mAP" not in Page(rendered).words


def test_the_report_is_written_whole_and_alone(tmp_path: Path) -> None:
    path = tmp_path / "a folder ü" / "report.html"
    path.parent.mkdir()
    write_report(report(), path)
    assert path.read_text(encoding="utf-8") == render_report(report())
    assert list(path.parent.iterdir()) == [path]


def test_bytes_that_are_no_image_are_refused(tmp_path: Path) -> None:
    query = replace(ranked_query(), image=b"text")
    with pytest.raises(ValueError, match="expected an encoded PNG, JPEG, GIF or WebP, got 4 bytes"):
        render_report(replace(report(), gallery=(query,)))
    with pytest.raises(ValueError, match=r"image 'a/0.png' cannot be read"):
        write_gallery_png([query], tmp_path / "gallery.png")
    with pytest.raises(ValueError, match="at least one query"):
        write_gallery_png([], tmp_path / "gallery.png")
    assert list(tmp_path.iterdir()) == []


def test_the_picture_shows_the_images_and_frames_hits_green_and_misses_red(tmp_path: Path) -> None:
    write_gallery_png([ranked_query(), ranked_query(HOSTILE)], tmp_path / "gallery.png")
    with Image.open(tmp_path / "gallery.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20) or []}
    assert {(0, 128, 0), (255, 0, 0), (21, 122, 60), (196, 40, 28)} <= colours
    assert list(tmp_path.iterdir()) == [tmp_path / "gallery.png"]


def test_worst_median_and_best_queries_are_chosen_once_each() -> None:
    precision = torch.tensor([0.9, math.nan, 0.1, 0.5, 0.4, 0.2, 1.0])
    assert choose_queries(precision, num_each=2) == [
        ("Worst queries", 2),
        ("Worst queries", 5),
        ("Median queries", 4),
        ("Median queries", 3),
        ("Best queries", 6),
        ("Best queries", 0),
    ]
    assert choose_queries(torch.tensor([0.3, math.nan, 0.2]), num_each=5) == [
        ("Worst queries", 2),
        ("Worst queries", 0),
    ]


@pytest.mark.parametrize(
    ("low", "high", "outside", "expected"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (1, 240, False, [50, 100, 150, 200]),
        (0, 0.93, True, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-3, 17, True, [-5, 0, 5, 10, 15, 20]),
        (2, 2, True, [1, 1.5, 2, 2.5, 3]),
    ],
)
def test_ticks_are_round_and_cover_what_they_should(
    low: float, high: float, outside: bool, expected: list[float]
) -> None:
    assert nice_ticks(low, high, outside=outside) == pytest.approx(expected)


def test_thinning_keeps_the_ends_and_the_mean_of_the_rest() -> None:
    points = [(float(x), float(x % 7)) for x in range(10_000)]
    thin = thin_out(points)
    assert len(thin) <= 300
    assert (thin[0], thin[-1]) == (points[0], points[-1])
    assert sum(y for _, y in thin) / len(thin) == pytest.approx(3, abs=0.1)
    assert thin_out(points[:300]) == points[:300]


def test_smoothing_keeps_a_straight_line() -> None:
    line = [(float(x), 2.0 * x) for x in range(100)]
    assert [y for _, y in smooth(line)] == pytest.approx([y for _, y in line])


def test_a_chart_of_fewer_than_two_places_is_left_out() -> None:
    series = Series(name="a", points=((1.0, 2.0), (math.inf, 1.0)), look="after")
    assert draw(Chart(title="t", note="", x_label="x", series=(series,))) is None


def test_a_line_is_drawn_within_the_axes_and_rises_upwards() -> None:
    series = Series(name="a", points=((0.0, 0.0), (10.0, 1.0)), look="after")
    drawing = draw(Chart(title="t", note="", x_label="x", series=(series,)))
    assert drawing is not None
    (left, bottom), (right, top) = (
        map(float, point.split(",")) for point in drawing.lines[0].path.split()
    )
    assert 0 < left < right < drawing.axes.width
    assert 0 < top < bottom < drawing.axes.height
