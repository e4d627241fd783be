"""The list of exclusions: what it names, what it keeps, and that `data.exclude` takes it."""

from pathlib import Path

from apdist.audit.duplicates import Duplicates
from apdist.audit.exclusions import SAFE, exclusions
from apdist.audit.findings import Findings
from apdist.audit.labels import Suspicion
from apdist.audit.outliers import Outlier
from apdist.config import DataConfig
from apdist.data.catalogue.catalogue import Catalogue
from apdist.data.catalogue.selection import training_images
from tests.audit.faults import Shot, rows_of, write_shots

NAMES = ["kept", "copy", "leaked", "measured", "damaged", "doubted", "stray", "odd", "good"]


def some_findings(out: Path) -> tuple[Findings, Catalogue, dict[str, int]]:
    shots = [
        Shot(f"{name}.png", name.encode(), split="test" if name == "measured" else "train")
        for name in NAMES
    ]
    catalogue = with_keys(write_shots(out, shots), {"odd": "# odd"})
    rows = {name.removesuffix(".png"): row for name, row in rows_of(catalogue).items()}

    def group(*names: str, splits: tuple[str, ...] = ("train",)) -> Duplicates:
        return Duplicates(
            rows=tuple(rows[name] for name in names),
            how="copy",
            score=0.99,
            splits=splits,
            labels=(0,),
        )

    findings = Findings(
        duplicates=[
            group("measured", "leaked", splits=("test", "train")),
            group("kept", "copy", "odd"),
        ],
        labels=[
            Suspicion(row=rows[name], label=0, suggested=1, confidence=1, witnesses=())
            for name in ("doubted", "copy", "measured")
        ],
        one_classes=[],
        outliers=[Outlier(row=rows["stray"], similarity=0.1, usual=0.8, nearest=0)],
        damaged={rows["damaged"]: "is empty"},
        has_descriptors=True,
    )
    return findings, catalogue, rows


def with_keys(catalogue: Catalogue, new: dict[str, str]) -> Catalogue:
    """``catalogue`` with other keys, as shards of others may have them."""
    keys = [new.get(key, key) for key in catalogue.column("key").to_pylist()]
    table = catalogue.table
    table = table.set_column(table.schema.get_field_index("key"), "key", [keys])
    return Catalogue(catalogue.root, table, catalogue.shards)


def listed(text: str) -> set[str]:
    return {line for line in text.splitlines() if not line.startswith("#")}


def test_training_copies_go_and_what_is_measured_or_kept_stays(tmp_path: Path) -> None:
    findings, catalogue, rows = some_findings(tmp_path / "s")
    found = exclusions(findings, catalogue, "train", SAFE)
    assert listed(found.text) == {"leaked", "copy", "damaged"}
    assert found.rows == {rows["leaked"], rows["copy"], rows["damaged"]}
    (note,) = found.notes
    assert "'# odd'" in note
    everything = exclusions(findings, catalogue, "train", (*SAFE, "labels", "outliers"))
    assert listed(everything.text) == {"leaked", "copy", "damaged", "doubted", "stray"}
    assert listed(exclusions(findings, catalogue, "train", ("labels",)).text) == {
        "doubted",
        "copy",
    }


def test_a_training_takes_the_list(tmp_path: Path) -> None:
    findings, catalogue, _ = some_findings(tmp_path / "s")
    file = tmp_path / "exclude.txt"
    file.write_text(exclusions(findings, catalogue, "train", SAFE).text)
    config = DataConfig(shards=str(tmp_path / "s"), exclude=str(file), holdout_share=0.0)
    left = training_images(catalogue, config, 0).column("key").to_pylist()
    assert set(left) == {"kept", "doubted", "stray", "# odd", "good"}


def test_a_key_of_several_images_is_said_and_not_listed(tmp_path: Path) -> None:
    findings, catalogue, _ = some_findings(tmp_path / "s")
    twice = with_keys(catalogue, {"good": "copy"})
    found = exclusions(findings, twice, "train", ("duplicates",))
    assert found.rows == frozenset()
    assert "2 images cannot be named" in found.notes[0]
