"""A drawn replica of revisited Oxford, from the command line."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.ground_truth.ground_truth import GroundTruth, JudgedQuery
from apdist.data.ground_truth.ground_truth_file import write_ground_truth
from apdist.data.images import evaluation_image
from apdist.data.loading.reader import ImageReader, read_images
from apdist.model.pretrained import load_model
from apdist.retrieval.expansion import expand_queries
from apdist.retrieval.protocols.searching import score_judged
from apdist.training.run_folder.runs import Run
from apdist_verbs.__main__ import main
from apdist_verbs.describe_options import CONTENTS
from tests.pipelines.measure.scenes import LETTERS, untrained_run, write_scenes
from tests.retrieval.test_descriptor_tables import write as write_table


@dataclasses.dataclass(frozen=True)
class Replica:
    run: Run
    catalogue: Catalogue
    truth: GroundTruth
    root: Path

    def evaluate(self, *options: str) -> dict[str, Any]:
        """What the JSON says of the command."""
        target = self.root / "found.json"
        target.unlink(missing_ok=True)
        code = main(["evaluate", "--run", self.run.uri, "--json", str(target), *options])
        assert code == 0
        content: dict[str, Any] = json.loads(target.read_text())
        return content

    def file(self, truth: GroundTruth) -> str:
        """Its place."""
        write_ground_truth(str(self.root / "truth.parquet"), truth)
        return str(self.root / "truth.parquet")


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Replica:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("replica")
    catalogue, truth = write_scenes(root / "shards")
    return Replica(untrained_run(root / "runs", root / "shards"), catalogue, truth, root)


def figures(content: dict[str, Any]) -> dict[tuple[str, str], float]:
    return {(line["part"], line["key"]): line["value"] for line in content["figures"]}


def refused(replica: Replica, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main(["evaluate", "--run", replica.run.uri, *options]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def described(replica: Replica, row: int, box: Any = None) -> Any:
    """The descriptor of an image, by hand."""
    model = load_model(replica.run.uri)
    reader = ImageReader(replica.catalogue)
    [data] = read_images(reader.request(np.array([row])))
    image = torch.from_numpy(evaluation_image(bytes(data), model.fit, box))
    with torch.no_grad():
        return model.network(image[None])[0].double().numpy()


def test_every_difficulty_is_that_of_queries_cut_at_their_boxes(
    replica: Replica, capsys: pytest.CaptureFixture[str]
) -> None:
    content = replica.evaluate()
    out = capsys.readouterr().out
    assert "8 of 8 queries were cut at their boxes" in out
    assert "trapezoid rule" in out
    assert (content["protocol"], content["num_images"], content["num_queries"]) == (
        *("revisited", 9 * len(LETTERS)),
        len(LETTERS),
    )
    assert all(line["convention"] for line in content["figures"])
    # By hand: one image at a time, sorted, junk left out, the area below the curve summed up.
    keys = replica.catalogue.column("key").to_pylist()
    rows = {key: row for row, key in enumerate(keys)}
    database = {key: described(replica, row) for key, row in rows.items() if key[0] != "q"}
    areas = []
    for query in replica.truth.queries:
        asked = described(replica, rows[query.key], query.box)
        left_out = {*query.junk, *query.easy}
        order = sorted(database, key=lambda key: -float(database[key] @ asked))
        hits = [key in query.hard for key in order if key not in left_out]
        area, found, before = 0.0, 0, 1.0
        for place, hit in enumerate(hits, start=1):
            found += hit
            area += hit / len(query.hard) * (before + found / place) / 2
            before = found / place
        areas.append(area)
    assert figures(content)["hard", "map_trapezoid"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_uncropped_queries_score_higher_and_are_refused(
    replica: Replica, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tuple(dataclasses.replace(query, box=None) for query in replica.truth.queries)
    uncropped = replica.file(GroundTruth(protocol="own", queries=whole))
    cropped = figures(replica.evaluate())
    inflated = figures(replica.evaluate("--ground-truth", uncropped))
    for part in ("easy", "medium"):
        key = part, "map_trapezoid"
        assert inflated[key] > cropped[key] + 0.2
    capsys.readouterr()
    said = refused(replica, capsys, "--ground-truth", uncropped, "--protocol", "revisited")
    assert "query 'q0' has no box: revisited describes queries cut at their boxes" in said


def test_distractors_of_the_model_push_positives_back_and_others_are_refused(
    replica: Replica, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(replica.run.uri)
    tables = replica.root / "distractors"
    tables.mkdir()
    rows = np.stack([described(replica, row) for row in range(20)])
    write_table(tables / "a.parquet", rows, model.model_id)
    write_table(tables / "b.parquet", rows[:5], model.model_id)
    alone, crowded = (figures(replica.evaluate(*o)) for o in ((), ("--distractors", str(tables))))
    assert all(crowded[key] <= alone[key] for key in alone)
    assert crowded["medium", "map_trapezoid"] < alone["medium", "map_trapezoid"]
    assert "25 of the images are distractors" in capsys.readouterr().out
    nowhere = str(replica.root / "nowhere")
    assert main(["evaluate", "--run", replica.run.uri, "--distractors", nowhere]) == 2
    said = capsys.readouterr()
    assert "holds no .parquet file" in said.err
    assert "describing" not in said.out
    said = refused(replica, capsys, "--distractors", str(tables), "--database-augmentation", "1")
    assert "--database-augmentation would need the neighbours of every distractor" in said
    contents = tables / CONTENTS
    contents.write_text(json.dumps({"data": replica.catalogue.fingerprint()}))
    said = refused(replica, capsys, "--distractors", str(tables))
    assert "has the descriptors of these very images, of which some are right" in said
    contents.unlink()
    write_table(tables / "b.parquet", rows[:5], "another")
    said = refused(replica, capsys, "--distractors", str(tables))
    assert "b.parquet holds descriptors of model another, not of" in said


@pytest.mark.parametrize("has_more", [False, True], ids=["alone", "among distractors"])
def test_queries_are_averaged_with_what_is_nearest_of_all_that_is_searched(
    replica: Replica, has_more: bool
) -> None:
    keys = replica.catalogue.column("key").to_pylist()
    rows = {key: row for row, key in enumerate(keys)}
    names = [key for key in keys if key[0] != "q"]
    database = torch.from_numpy(np.stack([described(replica, rows[key]) for key in names]))
    asked = [described(replica, rows[q.key], q.box) for q in replica.truth.queries]
    noise = torch.randn(database.shape, generator=torch.Generator().manual_seed(0))
    more = normalize(database + 0.001 * noise, dim=1)  # as near, and no scores are equal
    everything, options = database, ["--query-expansion", "2"]
    if has_more:
        tables = replica.root / "neighbours"
        tables.mkdir()
        write_table(tables / "a.parquet", more.numpy(), load_model(replica.run.uri).model_id)
        everything, options = torch.cat((database, more)), [*options, "--distractors", str(tables)]
    queries = expand_queries(torch.from_numpy(np.stack(asked)), everything, k=2, alpha=0)
    found = figures(replica.evaluate(*options))
    parts = score_judged(
        *(queries, database, names, replica.truth), distractors=[more] if has_more else ()
    )
    for part in parts:
        for key, value in part.figures.items():
            assert found[part.part, key] == pytest.approx(value, abs=1e-6)


def test_queries_that_are_searched_themselves_are_averaged_with_others_alone(
    replica: Replica, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = replica.catalogue.column("key").to_pylist()
    names = [key for key in keys if key[0] != "q"]
    database = torch.from_numpy(np.stack([described(replica, keys.index(key)) for key in names]))
    truth = GroundTruth(
        protocol="own",
        queries=tuple(
            JudgedQuery(key=f"easy{n}0", positives=(f"easy{n}1", f"easy{n}2")) for n in range(8)
        ),
    )
    file = replica.file(truth)
    asked = []
    for query in truth.queries:
        row = names.index(query.key)
        others = torch.cat((database[:row], database[row + 1 :]))
        asked.append(expand_queries(database[row : row + 1], others, k=1, alpha=0))
    (expected,) = score_judged(torch.cat(asked), database, names, truth)
    found = figures(replica.evaluate("--ground-truth", file, "--query-expansion", "1"))
    for key, value in expected.figures.items():
        assert found["", key] == pytest.approx(value, abs=1e-6)
    assert found != figures(replica.evaluate("--ground-truth", file))
    capsys.readouterr()
    said = refused(replica, capsys, "--ground-truth", file, "--query-expansion", "72")
    assert "--query-expansion 72 is more than the 71 images that there are" in said


def test_a_ground_truth_of_other_images_is_refused_before_anything_is_described(
    replica: Replica, capsys: pytest.CaptureFixture[str]
) -> None:
    first = replica.truth.queries[0]
    for change, message in (
        ({"key": "nobody"}, "asks with 1 image, 1 of them not in the shards: 'nobody'"),
        ({"easy": ("x", "easy00")}, "judges 8 images, 1 of them not in the database: 'x'; "),
        ({"box": (9.0, 9.0, 9.5, 20.0)}, "holds no pixel of its image of 73 x 64"),
        ({"box": (0.0, 0.0, 800.0, 64.0)}, "reaches out of its image of 73 x 64 pixels"),
    ):
        changed = GroundTruth(protocol="revisited", queries=(dataclasses.replace(first, **change),))
        said = refused(replica, capsys, "--ground-truth", replica.file(changed))
        assert message in said
