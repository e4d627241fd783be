import pyarrow as pa
import pytest
import torch

from apdist.model.pretrained import TrainedModel
from apdist.retrieval.index import build_index
from apdist.retrieval.querying.open_index import OpenIndex
from apdist.serving.snapshot import _MOST_MASKS, Snapshot


def snapshot(entries: pa.Table) -> Snapshot:
    vectors = torch.nn.functional.normalize(torch.randn(entries.num_rows, 4), dim=1)
    index = build_index(vectors, entries, kind="exact", model_id="m")
    model: TrainedModel = None  # type: ignore[assignment]
    return Snapshot(OpenIndex(index, model), "v")


def test_rows_are_found_by_key_as_a_list_would_find_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of -1 and -2 Python's hashes of whole numbers are the same; texts are forced to be.
    monkeypatch.setattr("apdist.serving.snapshot.hash", lambda key: len(key), raising=False)
    keys = ["b", "", "../a", "ä", "ab", "cd", "b"]
    found = snapshot(pa.table({"key": pa.chunked_array([keys[:3], keys[3:]])}))
    assert [found.row(key) for key in keys] == [keys.index(key) for key in keys]
    assert found.row("c") is None
    assert found.row("a" * 50) is None
    assert found.entry(4) == {"key": "ab"}
    # Of keys of five lengths, again and again, an order that is not stable gives later rows.
    alike = [f"{number:0{2 + number % 5}}" for number in range(90)]
    again = snapshot(pa.table({"key": alike * 5}))
    assert [again.row(key) for key in alike] == [*range(90)]
    numbers = snapshot(pa.table({"key": [7, 8]}))
    assert numbers.row("8") == 1


def test_an_index_without_keys_has_none() -> None:
    found = snapshot(pa.table({"a": [1, 2]}))
    assert found.row("1") is None
    assert (found.label_column, found.labels) == ("", ([], 0))


def test_labels_are_told_in_order_also_where_they_are_numbers() -> None:
    names = pa.array(["b", None, "a", "", "b"]).dictionary_encode()
    assert snapshot(pa.table({"label_name": names})).labels == (["a", "b"], 2)
    found = snapshot(pa.table({"label": [3, 1, 3]}))
    assert (found.label_column, found.labels) == ("label", (["1", "3"], 2))


def test_filters_are_remembered_and_not_all_for_ever() -> None:
    found = snapshot(pa.table({"label": [3, 1, 3]}))
    assert found.mask([]) is None
    mask = found.mask(["label=3"])
    assert mask is not None
    assert mask.tolist() == [True, False, True]
    assert found.mask(["label=3"]) is mask
    for number in range(_MOST_MASKS):
        found.mask([f"label={number + 10}"])
    assert len(found._masks) == _MOST_MASKS
    with pytest.raises(ValueError, match="no column 'labl'"):
        found.mask(["labl=3"])
