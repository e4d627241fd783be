"""The whole audit on planted faults."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from apdist.audit.auditing import audit, without_duplicates
from apdist.audit.duplicates import Duplicates
from apdist.audit.looks import look
from tests.audit.faults import Shot, photo, png, rows_of, write_shots
from tests.pictures import encoded

NAMES = "abcd"


def planted() -> list[Shot]:
    """Four classes of twelve; one flipped label, one leak, a class's pictures under two names."""
    shots = [png(12 * c + n, label=NAMES[c]) for c in range(4) for n in range(12)]
    shots[5] = png(5, label="c")
    return [*shots, Shot("copy.jpg", encoded(photo(30), "JPEG", quality=60), "c", "test")]


def test_planted_faults_are_found(tmp_path: Path) -> None:
    catalogue = write_shots(tmp_path / "s", planted())
    rows = rows_of(catalogue)
    torch.manual_seed(0)
    centres, descriptors = torch.randn(4, 16), torch.zeros(len(catalogue), 16)
    for name, row in rows.items():
        number = 30 if name == "copy.jpg" else int(name.removesuffix(".png"))
        torch.manual_seed(number)
        descriptors[row] = centres[number // 12] + 0.3 * torch.randn(16)
    descriptors = normalize(descriptors, dim=1)
    phases: list[str] = []
    compared: list[tuple[int, int]] = []
    found = audit(
        catalogue,
        look(catalogue),
        descriptors,
        phase=phases.append,
        progress=lambda *done: compared.append(done),
    )
    (leak,) = found.leaks
    assert set(leak.rows) == {rows["30.png"], rows["copy.jpg"]}
    assert found.repeats == []
    assert [(each.row, each.suggested) for each in found.labels] == [(rows["5.png"], 0)]
    assert found.one_classes == []
    assert found.has_descriptors
    assert phases == ["looking for what is alike", "comparing pictures", "judging labels"]
    assert compared[-1][0] == compared[-1][1] > 0


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_and_no_network_are_no_failure(tmp_path: Path, count: int) -> None:
    catalogue = write_shots(tmp_path / "s", [png(n) for n in range(count)])
    found = audit(catalogue, look(catalogue), None)
    assert (found.duplicates, found.labels, found.has_descriptors) == ([], [], False)
    described = audit(catalogue, look(catalogue), torch.eye(count))
    assert (described.labels, described.outliers) == ([], [])


def test_copies_are_no_witnesses() -> None:
    group = Duplicates(rows=(0, 2), how="copy", score=1, splits=("a",), labels=(0,))
    scores = torch.tensor([[0.9, 0.8, 0.7]] * 2 + [[0.9, 0.8, -1.0]] * 2)
    rows = torch.tensor([[2, 1, 3], [0, 2, 3], [1, 0, -1], [-1, -1, -1]])
    left, near = without_duplicates(scores, rows, [group])
    assert near.tolist() == [[1, 3, -1], [0, 2, 3], [1, -1, -1], [-1, -1, -1]]
    assert left[0, :2].tolist() == pytest.approx([0.8, 0.7])
