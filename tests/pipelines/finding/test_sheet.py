"""The contact sheet of a search holds what fits, each picture once."""

from pathlib import Path

import pyarrow as pa
import torch

from apdist.report.contact_sheet import Thumbnails
from apdist.retrieval.querying.results import results_of
from apdist_verbs.finding.sheet import Sheet
from tests.pictures import encoded, picture


def test_pictures_stand_in_the_page_once_until_it_is_full(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(encoded(picture(number, 0)))
    sources = [f"{tmp_path}/{n}.png" for n in (0, 1, 2, 9)]
    entries = pa.table({"key": list("abcd"), "source": sources})
    found = torch.tensor([[0.9, 0.8]] * 3), torch.tensor([[0, 1], [1, 0], [2, 3]])
    results = results_of(2, ([5, 6, 7], ["x", "<b>", "z"]), found, entries)
    asked: list[int] = []

    def read(number: int) -> bytes:
        asked.append(number)
        return encoded(picture(number, 1))

    sheet = Sheet(read)
    sheet.add(results)
    page = sheet.page("a <title>", "summary", [])
    assert asked == [5, 6, 7]
    assert page.count("data:image/webp") == 3 + 3
    assert "<li>1 picture could not be read.</li>" in page  # 9.png is gone
    assert "&lt;b&gt;" in page
    assert "a &lt;title&gt;" in page
    assert "<b>" not in page
    assert abs(len(page) - sheet.thumbnails.num_bytes) < 12_000  # its style sheets
    full = Sheet(read)
    full.thumbnails = Thumbnails(most_bytes=1)
    full.add(results)
    page = full.page("title", "summary", ["a note"])
    assert page.count("data:image/webp") == 3
    assert "<li>The page is full: it shows the first 1 of 3 queries.</li>" in page
    assert "<li>a note</li>" in page
