from pathlib import Path

from apdist.data.preparing.folder import encode_file, folder_items, scan_folder
from apdist.data.preparing.repeated import OTHER_CLASS, OTHER_SPLIT, SAME_CLASS, repeated
from apdist.data.preparing.shards import write_shards
from tests.pictures import encoded, picture, refuse, write_folder, write_small_set


def test_bytes_that_come_again_are_counted_by_where_the_first_ones_are(tmp_path: Path) -> None:
    root = tmp_path / "images"
    write_folder(root, {"a": 3, "b": 3})
    once = encoded(picture(5, 5))
    for name in ("a/x.png", "a/y.png", "a/z.png", "b/x.png"):
        (root / name).write_bytes(once)
    (root / "b" / "link.png").symlink_to("0.png")
    folder = scan_folder(root)
    splits = {s: "train" for pictures in folder.files.values() for s in pictures}
    items = folder_items(folder, splits | {"a/z.png": "test", "b/x.png": "test"}, 0)
    out = str(tmp_path / "out")
    tally = repeated(write_shards(items, encode_file, out, shard_bytes=1 << 20, on_refused=refuse))
    counts = {kind: number for kind, (number, _) in tally.kinds.items()}
    assert sum(counts.values()) == 4  # of five images that come again the first one is none
    assert counts[OTHER_CLASS] + counts.get(OTHER_SPLIT, 0) >= 2
    assert counts[SAME_CLASS] >= 1
    assert " = " in tally.kinds[OTHER_CLASS][1]


def test_different_images_are_not_counted(tmp_path: Path) -> None:
    assert repeated(write_small_set(tmp_path / "out")).kinds == {}
