"""`apdist prepare roxford5k|sop|...` on tiny sets in the layouts of the published ones."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from apdist.data.catalogue.catalogue import read_catalogue
from apdist.data.ground_truth.ground_truth_file import read_ground_truth
from apdist.data.preparing.published.sets import SETS
from tests.pipelines.test_cli import refused, run
from tests.published import BOX, DRAWERS, IDS, draw, drawn, landmark

Damage = Callable[[Path], object]


def prepared(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[str, str]:
    """The folder of shards of a tiny set, and what the verb said."""
    monkeypatch.setitem(SETS, name, drawn(name, root))
    out = str(root.parent / "shards")
    code, said, err = run(["prepare", name, str(root), "--out", out], capsys)
    assert code == 0, err
    return out, said


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_written_with_its_official_splits(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, said = prepared(name, tmp_path / name, monkeypatch, capsys)
    catalogue, which = read_catalogue(out), SETS[name]
    assert catalogue.splits() == {split: count.images for split, count in which.counts.items()}
    for split, count in which.counts.items():
        labels = set(catalogue.select(split).labels.tolist())
        assert len(labels) == (count.classes or count.images)
    assert ("class" in said) == all(count.classes for count in which.counts.values())
    told = "train on them: apdist train" in said or "no training on them" in said
    assert told == ("train" in which.counts)
    assert (Path(out) / "ground_truth.parquet").exists() == bool(which.num_queries)
    if which.num_queries:
        keys = set(catalogue.column("key").to_pylist())
        truth = read_ground_truth(f"{out}/ground_truth.parquet")
        assert truth.protocol == which.protocol
        assert all({query.key, *query.judged()} <= keys for query in truth.queries)
        assert {query.box for query in truth.queries} == {BOX if which.has_boxes else None}


def test_there_is_a_drawing_of_every_set() -> None:
    assert list(DRAWERS) == list(SETS)


def test_the_public_queries_of_landmarks_have_a_ground_truth_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, _ = prepared("gldv2_retrieval", tmp_path / "root", monkeypatch, capsys)
    (private,) = read_ground_truth(f"{out}/ground_truth.parquet").queries
    (public,) = read_ground_truth(f"{out}/ground_truth_public.parquet").queries
    keys = [landmark("index", image).removesuffix(".jpg") for image in IDS]
    assert private.positives == (keys[0], keys[2])
    assert public.positives == (keys[1],)


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code was run",)


def cut(path: str, num_bytes: int) -> Damage:
    return lambda root: (root / path).write_bytes((root / path).read_bytes()[:-num_bytes])


def shorter(path: str) -> Damage:
    """Without its last line."""
    return lambda root: (root / path).write_text(
        "".join((root / path).read_text().splitlines(keepends=True)[:-1])
    )


def text(path: str, old: str, new: str) -> Damage:
    return lambda root: (root / path).write_text((root / path).read_text().replace(old, new))


def gone(path: str) -> Damage:
    return lambda root: (root / path).unlink()


def more(path: str) -> Damage:
    return lambda root: draw(root, path, 9, 9)


def hostile(path: str) -> Damage:
    return lambda root: (root / path).write_bytes(pickle.dumps({"imlist": Hostile()}))


LANDMARKS = "retrieval_solution_v2.1.csv"
SOULS = "gt_files/souls_1"


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("sop", gone("bicycle_final/111_0.JPG"), "lacks 1 image (bicycle_final/111_0.JPG) of sop;"),
        ("sop", more("sofa_final/x.jpg"), "holds 1 picture (sofa_final/x.jpg) that sop does not"),
        ("sop", gone("Ebay_test.txt"), "holds no Ebay_test.txt; give the folder that contains it"),
        ("sop", cut("Ebay_test.txt", 25), "line 7: expected image_id class_id super_class_id path"),
        ("sop", shorter("Ebay_test.txt"), "other counts than the published ones: 5 test images, n"),
        (
            "sop",
            cut("Ebay_test.txt", 3),
            "lacks 1 image (bicycle_final/115_1.J) and holds 1 picture (bicy",
        ),
        ("sop", text("Ebay_test.txt", "6 3 1", "6 three 1"), "class_id 'three' is no whole number"),
        ("sop", text("Ebay_test.txt", "_1.JPG", "_0.JPG"), "more than once"),
        ("cub", cut("image_class_labels.txt", 7), "labels other images than images.txt lists, the"),
        ("cub", shorter("classes.txt"), "has class 101, which classes.txt does not name"),
        ("cub", text("images.txt", "2 ", "1 "), "images.txt line 2: number 1 comes twice"),
        ("cars", cut("cars_annos.mat", 300), "cars_annos.mat is damaged or cut ("),
        ("cars", cut("cars_annos.mat", 10**6), "is no MATLAB file of version 5 to 7.2"),
        ("cars", lambda root: (root / "car_ims").rename(root / "x"), "holds no folder car_ims"),
        ("inshop", shorter("Eval/list_eval_partition.txt"), "promises 8 images in its first line"),
        ("inshop", text("Eval/list_eval_partition.txt", " query", " qu"), "'qu' is none of train,"),
        ("inshop", text("Eval/list_eval_partition.txt", "  id_", "  if_"), "none like id_00000002"),
        ("oxford5k", cut(f"{SOULS}_good.txt", 17), "has no good image in the file beside it"),
        ("inaturalist", gone("train_val2018/Aves/12/00121.jpg"), "lacks 1 image (train_val2018/A"),
        (
            "inaturalist",
            text("Inat_dataset_splits/Inaturalist_test_set1.txt", "Aves/", ""),
            "expected train_val2018/<kind>/<species>/<image>",
        ),
        ("gldv2", cut("train.csv", 2), "landmark_id '' is no whole number"),
        ("gldv2_clean", cut("metadata/train_clean.csv", 5), "is no id of 16 letters; the file is"),
        (
            "gldv2_clean",
            text("metadata/train_clean.csv", "landmark_id", "x"),
            "a table of landmark",
        ),
        ("gldv2_retrieval", text(LANDMARKS, "Public", "Other"), "'Other' is none of Private, Pub"),
        ("gldv2_retrieval", text("index.csv", IDS[0], ""), f"image {IDS[0]} is not in index.csv"),
        ("roxford5k", hostile("gnd_roxford5k.pkl"), "asks for builtins.print, which plain data"),
        ("roxford5k", cut("gnd_roxford5k.pkl", 9), "gnd_roxford5k.pkl is no revisited ground trut"),
        ("roxford5k", gone("jpg/all_souls_000101.jpg"), "lacks 1 image (all_souls_000101.jpg)"),
        ("roxford5k", more("jpg/other.jpg"), "holds 1 picture (jpg/other.jpg) that roxford5k"),
        ("rparis6k", lambda root: (root / "gnd_rparis6k.pkl").rename(root / "x"), "no gnd_rparis"),
        ("oxford5k", gone(f"{SOULS}_ok.txt"), "souls_1_ok.txt is missing beside souls_1_query.txt"),
        ("oxford5k", cut(f"{SOULS}_query.txt", 6), "line 1: expected image left top right bottom"),
        ("oxford5k", text(f"{SOULS}_query.txt", "20.0", "2.0"), "left < right, top < bottom"),
        ("oxford5k", text(f"{SOULS}_query.txt", "20.0", "99.0"), "reaches out of its image of"),
        ("oxford5k", text(f"{SOULS}_ok.txt", "souls", "soul"), "judges 2 images (all_soul_000000"),
        ("holidays", gone("jpg/100000.jpg"), "4 database images, not 5; 1 judged queries, not 2"),
        ("holidays", more("jpg/party.jpg"), "holds 1 picture (jpg/party.jpg) that holidays does"),
    ],
)
def test_what_is_damaged_is_refused_and_nothing_is_written(
    name: str,
    damage: Damage,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(SETS, name, drawn(name, tmp_path / "root"))
    damage(tmp_path / "root")
    before = sorted(tmp_path.rglob("*"))
    said = refused(["prepare", name, str(tmp_path / "root"), "--out", f"{tmp_path}/out"], capsys)
    assert message in said
    assert len(said) < 600
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["sop", "inshop", "gldv2_clean", "oxford5k"])
def test_windows_line_ends_and_a_byte_order_mark_change_nothing(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(SETS, name, drawn(name, tmp_path / "root"))
    for path in (*tmp_path.rglob("*.txt"), *tmp_path.rglob("*.csv")):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    code, _, err = run(["prepare", name, f"{tmp_path}/root", "--out", f"{tmp_path}/out"], capsys)
    assert code == 0, err


def test_a_subset_is_taken_where_it_is_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", f"{tmp_path}/out"
    drawn("roxford5k", root)
    (root / "jpg/all_souls_000000.jpg").unlink()
    (root / "jpg/all_souls_000101.jpg").unlink()
    draw(root, "jpg/other.jpg")
    assert "5 database" not in refused(["prepare", "roxford5k", str(root), "--out", out], capsys)
    code, said, err = run(["prepare", "roxford5k", str(root), "--out", out, "--subset"], capsys)
    assert code == 0
    assert read_catalogue(out).splits() == {"database": 5, "query": 1}
    (query,) = read_ground_truth(f"{out}/ground_truth.parquet").queries
    assert query.key == "jpg/all_souls_000100"
    assert (query.easy, query.hard) == (("jpg/all_souls_000001",), ("jpg/all_souls_000004",))
    assert "ground_truth.parquet lacks 2 images that roxford5k judges" in said + err
    assert "picture that no list names: left out" in said
    assert "--subset: what is there is not compared with the counts of roxford5k, and fig" in err


def test_a_damaged_picture_that_is_skipped_is_left_out_of_the_ground_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", f"{tmp_path}/out"
    monkeypatch.setitem(SETS, "roxford5k", drawn("roxford5k", root))
    (root / "jpg/all_souls_000004.jpg").write_text("no picture")
    command = ["prepare", "roxford5k", str(root), "--out", out]
    assert "jpg/all_souls_000004.jpg is no image" in refused(command, capsys)
    code, said, err = run([*command, "--on-corrupt", "skip"], capsys)
    assert code == 0
    assert "ground_truth.parquet lacks 1 image that roxford5k judges" in said + err
    assert read_ground_truth(f"{out}/ground_truth.parquet").queries[0].hard == ()


def test_a_subset_without_a_positive_has_no_ground_truth_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = tmp_path / "root", tmp_path / "out"
    drawn("roxford5k", root)
    for number in (0, 1, 2, 4, 5):
        (root / f"jpg/all_souls_00000{number}.jpg").unlink()
    said = refused(["prepare", "roxford5k", str(root), "--out", str(out), "--subset"], capsys)
    assert "the ground truth of roxford5k cannot be used: none of the 2 queries has a pos" in said
    assert not out.exists()


@pytest.mark.parametrize(("name", "is_measured"), [("sop", True), ("inshop", False)])
def test_the_next_command_measures_no_split_that_is_not_there(
    name: str,
    is_measured: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, said = prepared(name, tmp_path / "root", monkeypatch, capsys)
    assert "next, train on them: apdist train folder" in said
    assert ("--data.eval-split=" in said) != is_measured


def test_a_folder_beside_the_right_one_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn("sop", tmp_path / "a" / "b" / "Stanford_Online_Products")
    for wrong in ("a", "a/b/Stanford_Online_Products/bicycle_final"):
        said = refused(["prepare", "sop", f"{tmp_path}/{wrong}", "--out", f"{tmp_path}/x"], capsys)
        assert "holds no Ebay_train.txt; " in said
        assert "/a/b/Stanford_Online_Products does: give that" in said
        assert "https://cvgl.stanford.edu" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["roxford5", "x"], "did you mean 'roxford5k'?"),
        (["sop"], "`apdist prepare sop` needs ROOT and --out STR"),
        (["sop", "nowhere", "--out", "x"], "nowhere is no folder; expected the unpacked sop, with"),
        (["sop", ".", "--out", "./x"], "--out ./x lies in ."),
        (["sop", ".", "--out", "../x", "--max-side", "-1"], "--max-side must be 0 or more"),
        (["oxford5k", ".", "--out", "../x", "--max-side", "9"], "does not go with oxford5k: the"),
    ],
)
def test_bad_options_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(["prepare", *arguments], capsys)


def test_the_help_names_every_set_with_its_counts(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(["prepare", "--help"], capsys)
    assert all(f"  {name} " in out for name in SETS)
    _, out, _ = run(["prepare", "sop", "--help"], capsys)
    assert "59,551 images of 11,318 classes" in out
