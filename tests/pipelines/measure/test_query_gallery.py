"""Queries of one split against another: the figures, and queries that are in the gallery."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from apdist.data.preparing.shards import Item, write_shards
from apdist.model.pretrained import load_model
from apdist.retrieval.describe import describe_split
from apdist.retrieval.metrics import score_queries
from apdist_verbs.__main__ import main
from apdist_verbs.measure.query_gallery import num_in_both
from tests.pictures import encode_picture, refuse
from tests.pipelines.measure.scenes import untrained_run


def test_a_set_with_queries_and_a_gallery_is_measured_by_its_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = ["query", "gallery", "gallery", "train"]
    items = [
        Item(f"{label}/{n}.png", label, str(label), splits[n], content=(label, n))
        for label in range(6)
        for n in range(4)
    ]
    items.append(Item("again.png", 0, "0", "gallery", content=(0, 0)))
    images = write_shards(
        items, encode_picture, str(tmp_path / "set"), shard_bytes=10**6, on_refused=refuse
    )
    run = untrained_run(tmp_path / "runs", tmp_path / "set")
    assert main(["evaluate", "--run", run.uri, "--recall-at", "1", "2"]) == 0
    out = capsys.readouterr().out
    assert "6 queries of query against 13 images of gallery" in out
    assert "1 query is in the gallery byte by byte" in out
    content = json.loads(Path(run.uri, "figures_query-gallery.json").read_text())
    model = load_model(run.uri)
    queries, gallery = images.select("query"), images.select("gallery")
    expected = score_queries(
        *(
            part
            for split in (queries, gallery)
            for part in (
                describe_split(model.network, split, fit=model.fit, progress=lambda _: None),
                torch.tensor(split.labels),
            )
        ),
        recall_at=(1, 2),
    )
    found = {line["key"]: line["value"] for line in content["figures"]}
    assert found == {
        "map": expected.mean_average_precision,
        "recall_at_1": expected.recall_at[1],
        "recall_at_2": expected.recall_at[2],
        "map_at_r": expected.map_at_r,
        "r_precision": expected.r_precision,
        "mean_reciprocal_rank": expected.mean_reciprocal_rank,
    }
    assert num_in_both(queries, gallery) == 1
    assert num_in_both(images.select("train"), gallery) == 0


def test_splits_without_a_class_in_common_are_refused_before_anything_is_described(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items = [
        Item(f"{label}.png", label, str(label), "gallery" if label else "query", content=(label, 0))
        for label in range(3)
    ]
    write_shards(items, encode_picture, str(tmp_path / "set"), shard_bytes=10**6, on_refused=refuse)
    run = untrained_run(tmp_path / "runs", tmp_path / "set")
    assert main(["evaluate", "--run", run.uri]) == 2
    said = capsys.readouterr()
    assert "no image of the split 'query' has a label of the split 'gallery'" in said.err
    assert "describing" not in said.out
    assert main(["evaluate", "--run", run.uri, "--query-split", "typo"]) == 2
    assert "split 'typo' is not in" in capsys.readouterr().err
