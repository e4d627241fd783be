"""Descriptors as papers make them, from the command line: scales, sizes, whitening, expansion."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from apdist.config import override, to_json
from apdist.data import storage
from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.loading.sequential import shard_names
from apdist.model.kept_whitenings import keep_whitening
from apdist.model.pretrained import load_model
from apdist.model.whitening import learn_pca_whitening
from apdist.retrieval.expansion import augment_database, expand_queries
from apdist.retrieval.metrics import score_labelled, score_queries
from apdist.retrieval.scores_file import write_scores
from apdist.training.run_folder.runs import CONFIG_NAME, Run, evaluation_name, open_run
from apdist_verbs.__main__ import main
from apdist_verbs.describe_options import (
    CONTENTS,
    DescribeOptions,
    options_to_json,
    options_to_words,
)
from apdist_verbs.described import describe, trained_model
from apdist_verbs.extract import Describer, Options
from apdist_verbs.pages.content import Images, facts, measure_run
from tests.pictures import write_small_set
from tests.pipelines.measure.scenes import untrained_run
from tests.places import ROOT

DESCRIBING = DescribeOptions(size=20, scales=(1.0, 0.5), scale_power=2.0, whiten="own", dim=4)
HANDED_OVER = re.findall(r"^\| (`.+?`) \|", (ROOT / "docs" / "handover.md").read_text(), re.M)
"""Columns, as the manual has them: one or more in a line."""
WORDS = ["--size", "20", "--scales", "1", "0.5", "--scale-power", "2", "--whiten", "own"]
WORDS += ["--dim", "4"]


@dataclass(frozen=True)
class Place:
    run: Run
    shards: str
    root: Path

    def evaluate(self, *options: str) -> dict[str, float]:
        """The figures that the JSON has."""
        target = self.root / "found.json"
        assert main(["evaluate", "--run", self.run.uri, "--json", str(target), *options]) == 0
        lines = json.loads(target.read_text())["figures"]
        return {line["key"]: line["value"] for line in lines}

    def descriptors(self, split: str, describing: DescribeOptions) -> Any:
        """Those of the library, and labels."""
        model = trained_model(self.run, describing)
        found = describe(self.run.uri, model.model_id, self.shards, split, describing)
        return found.descriptors, torch.tensor(found.catalogue.labels)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("describing")
    write_small_set(root / "shards")
    run = untrained_run(root / "runs", root / "shards")
    result = Place(run, str(root / "shards"), root)
    whitening = learn_pca_whitening(
        result.descriptors("train", DescribeOptions())[0], num_components=5
    )
    keep_whitening(whitening, run.uri, "own")
    return result


@pytest.fixture(scope="module")
def tables(place: Place) -> str:
    """What `apdist extract` writes with these options, in this process."""
    out = str(place.root / "tables")
    options = Options(out=out, describing=DESCRIBING)
    catalogue = read_catalogue(place.shards)
    describer = Describer(place.run.uri, place.shards, out, options, False)
    told = describer({"shard": np.array(shard_names(catalogue))})
    assert not any(told["refused"].tolist())
    contents = {"data": catalogue.fingerprint(), "describing": options_to_json(DESCRIBING)}
    Path(out, CONTENTS).write_text(json.dumps(contents))
    return out


def test_tables_say_what_a_database_has_to_know(place: Place, tables: str) -> None:
    for file in Path(tables).glob("*.parquet"):
        found = pq.read_table(file)
        assert set(found.column_names) == set(re.findall(r"\w+", " ".join(HANDED_OVER)))
        assert found.schema.metadata[b"apdist.metric"] == b"cosine"
        assert found.schema.metadata[b"apdist.dim"] == b"4"
        assert found.schema.metadata[b"apdist.model"].decode() == found["model"][0].as_py()
        lengths = np.linalg.norm(np.stack(found["descriptor"].to_pylist()), axis=1)
        np.testing.assert_allclose(lengths, 1, atol=1e-5)


def refused(place: Place, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main([words[0], "--run", place.run.uri, *words[1:]]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_the_index_that_is_next_is_described_as_was_measured(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert options_to_words(DescribeOptions()) == []
    place.evaluate("--split", "test", *WORDS)
    assert f"apdist index --run {place.run.uri} {' '.join(WORDS)}" in capsys.readouterr().out


def test_evaluation_describes_as_it_is_told(place: Place) -> None:
    expected = score_labelled(*place.descriptors("test", DESCRIBING))
    found = place.evaluate("--split", "test", *WORDS)
    assert found["map"] == pytest.approx(expected.mean_average_precision, abs=1e-9)
    assert found["map"] != pytest.approx(place.evaluate("--split", "test")["map"], abs=1e-4)
    ids = [
        trained_model(place.run, m).model_id
        for m in (DESCRIBING, DescribeOptions(size=20), DescribeOptions())
    ]
    assert len(set(ids)) == 3
    assert ids[2] == load_model(place.run.uri).model_id


def test_a_model_that_was_trained_to_be_cut_is_measured_cut_as_well(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, labels = place.descriptors("test", DescribeOptions())
    run, target = place.root / "cut", place.root / "cut.json"
    shutil.copytree(place.run.uri, run)
    trained = override(place.run.config, {"loss.matryoshka": [2, 3]})
    (run / CONFIG_NAME).write_text(to_json(trained))
    words = ["evaluate", "--run", str(run), "--json", str(target), "--split", "test"]
    assert main(words) == 0
    assert "mAP, first 2" in capsys.readouterr().out
    lines = {line["key"]: line for line in json.loads(target.read_text())["figures"]}
    for size in (2, 3):
        cut = whole[:, :size] / whole[:, :size].norm(dim=1, keepdim=True)
        expected = score_labelled(cut, labels)
        found = lines[f"map_first_{size}"]["value"]
        assert found == pytest.approx(expected.mean_average_precision, abs=1e-6)
        assert main([*words, "--dim", str(size)]) == 0
        kept = {line["key"]: line for line in json.loads(target.read_text())["figures"]}
        assert kept["map"]["value"] == pytest.approx(found, abs=1e-6)
        assert f"map_first_{size}" not in kept
        assert "trained to be cut" not in capsys.readouterr().out
        on_page = facts(
            measure_run(open_run(str(run)), Images(split="test", queries=1, results=1, on_map=9))
        )
        assert on_page[f"first {size} numbers"] == f"mAP {found:.4f}"
    divided = ["--protocol", "query-gallery", "--query-split", "test", "--gallery-split", "test"]
    for more in (["--split", "test", "--whiten", "own"], divided):
        assert main([*words[:5], *more]) == 0
        assert "trained to be cut to 2 or 3 numbers: --dim N" in capsys.readouterr().out


def test_what_was_extracted_once_is_measured_as_it_was_made(
    place: Place, tables: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = place.evaluate("--split", "test", *WORDS)
    assert place.evaluate("--split", "test", "--descriptors", tables) == expected
    assert place.evaluate("--split", "test", "--descriptors", tables, *WORDS) == expected
    words = ("evaluate", "--split", "test", "--descriptors", tables)
    said = refused(place, capsys, *words, "--size", "32")
    assert (
        "was made with --size 20 --scales 1 0.5 --scale-power 2.0 --whiten own --dim 4, this"
        in said
    )
    assert "is no folder of `apdist extract" in refused(
        place, capsys, "evaluate", "--descriptors", place.shards
    )


def test_figures_before_training_stand_beside_what_was_made_alike_alone(
    place: Place, tables: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = score_labelled(*place.descriptors("test", DescribeOptions()))
    kept = storage.join(place.run.uri, evaluation_name("test", 0))
    write_scores(plain, kept)
    place.evaluate()
    assert "before training" in capsys.readouterr().out
    place.evaluate("--descriptors", tables)
    assert "before training" not in capsys.readouterr().out
    storage.remove(kept)


def test_tables_that_lack_images_or_are_of_others_are_refused(
    place: Place, tables: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("evaluate", "--split", "test", "--descriptors", tables)
    names = sorted(Path(tables).glob("*test*.parquet")) or sorted(Path(tables).glob("*.parquet"))
    hidden = names[-1].with_suffix(".hidden")
    names[-1].rename(hidden)
    said = refused(place, capsys, *words)
    hidden.rename(names[-1])
    assert "images have no descriptor in" in said
    assert "let `apdist extract` come to its end" in said
    contents = json.loads(Path(tables, CONTENTS).read_text())
    Path(tables, CONTENTS).write_text(json.dumps(contents | {"data": "others"}))
    assert "descriptors of other images than" in refused(place, capsys, *words)
    Path(tables, CONTENTS).write_text(json.dumps(contents))


def test_queries_and_database_are_averaged_with_their_neighbours(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    divided = ("--protocol", "query-gallery", "--query-split", "test", "--gallery-split", "test")
    queries, query_labels = place.descriptors("test", DescribeOptions())
    expansion = ("--query-expansion", "3", "--database-augmentation", "2", "--expansion-alpha", "2")
    found = place.evaluate(*divided, *expansion)
    itself = augment_database(queries, k=2, alpha=2)
    scores = score_queries(
        expand_queries(queries, itself, k=3, alpha=2), query_labels, itself, query_labels
    )
    assert found["map"] == pytest.approx(scores.mean_average_precision, abs=1e-9)
    said = refused(place, capsys, "evaluate", "--split", "test", "--query-expansion", "2")
    assert "need queries apart from the images that are searched" in said
    said = refused(place, capsys, "evaluate", *divided, "--query-expansion", "500")
    assert "--query-expansion 500 is more than the 24 images that there are" in said
    assert found["map"] != pytest.approx(place.evaluate(*divided)["map"], abs=1e-4)


def test_an_index_is_searched_as_its_images_were_described(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(place.root / "index")
    words = ["--run", place.run.uri, "--split", "test", "--out", out]
    assert main(["index", *words, "--kind", "exact", *WORDS]) == 0
    catalogue = read_catalogue(place.shards)
    row = catalogue.column("split").to_pylist().index("test")
    shard = place.root / "shards" / catalogue.column("shard").to_pylist()[row]
    begin = catalogue.column("offset").to_pylist()[row]
    picture = place.root / "query.png"
    picture.write_bytes(
        shard.read_bytes()[begin : begin + catalogue.column("size").to_pylist()[row]]
    )
    capsys.readouterr()
    assert main(["search", str(picture), "--run", place.run.uri, "--index", out, "-k", "1"]) == 0
    assert "1.0000" in capsys.readouterr().out


def test_images_that_were_described_in_another_way_do_not_go_into_an_index(
    place: Place, tables: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(place.root / "cut index")
    words = ["--run", place.run.uri, "--split", "test", "--out", out, "--dim", "3"]
    assert main(["index", *words, "--kind", "exact"]) == 0
    assert main(["index", "update", "--run", place.run.uri, "--index", out, "--table", tables]) == 2
    said = capsys.readouterr().err
    assert "were described with --dim 3, the descriptors in" in said
    assert f"with {' '.join(WORDS)}; extract them in that way" in said
    said = refused(place, capsys, "index", "--table", tables, "--dim", "3", "--out", out + "2")
    assert "--whiten and --dim say how images are described, and those of a --table are" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--whiten", "owm"], "has no whitening 'owm': it has own; did you mean 'own'"),
        (["--scales", "1", "9"], "scales must lie in (0, 4], got 9"),
        (["--size", "-5"], "size must be at least 0"),
        (["--dim", "-5"], "dim must be at least 0 numbers, got -5"),
        (["--whiten", "own", "--dim", "6"], "dim 6 is more than the 5 numbers of a descriptor"),
        (["--query-expansion", "-1"], "must be at least 0"),
        (["--expansion-alpha", "nan"], "--expansion-alpha must be at least 0"),
        (["--expansion-alpha", "3"], "--expansion-alpha 3 weighs neighbours, and there are none"),
    ],
)
def test_odd_options_are_refused_in_a_line(
    place: Place, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in refused(place, capsys, "evaluate", "--split", "test", *words)
