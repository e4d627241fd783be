"""Tiny data sets in the exact layouts of the published ones, and descriptions with their counts."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from apdist.data.preparing.published.description import Count, PublishedSet
from apdist.data.preparing.published.sets import SETS
from tests.pictures import encoded, picture

BOX = (2.5, 3.0, 20.0, 21.5)
DAMAGED = "paris_louvre_000136"
IDS = [f"{number:016x}" for number in (0x123 << 52 | i for i in range(8))]


def drawn(name: str, root: Path) -> PublishedSet:
    """Draw the set ``name`` in ``root``; its description with the counts of what was drawn."""
    root.mkdir(parents=True, exist_ok=True)
    images, classes, queries = DRAWERS[name](root)
    counts = {split: Count(images=images[split], classes=classes.get(split, 0)) for split in images}
    return replace(SETS[name], counts=counts, num_queries=queries)


Drawn = tuple[dict[str, int], dict[str, int], int]
"""Images and classes of each split, and judged queries."""


def draw(root: Path, path: str, label: int = 0, number: int = 0) -> None:
    """A picture; no two have the same bytes unless their numbers agree."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(encoded(picture(label, number), "JPEG"))


def write(root: Path, path: str, *lines: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("\n".join(lines) + "\n")


def draw_sop(root: Path) -> Drawn:
    image = 0
    for split, labels in (("train", (1, 2)), ("test", (3, 4, 5))):
        lines = ["image_id class_id super_class_id path"]
        for label in labels:
            for number in range(2):
                image += 1
                path = f"bicycle_final/11{label}_{number}.JPG"
                draw(root, path, label, number)
                lines.append(f"{image} {label} 1 {path}")
        write(root, f"Ebay_{split}.txt", *lines)
    write(root, "Ebay_info.txt", "image_id class_id super_class_id path")
    return {"train": 4, "test": 6}, {"train": 2, "test": 3}, 0


def draw_cub(root: Path) -> Drawn:
    classes = {1: "001.Black_footed_Albatross", 100: "100.Brown_Pelican", 101: "101.White_Pelican"}
    images = [(label, number) for label in classes for number in range(2)]
    paths = [f"{classes[label]}/Bird_{label:04d}_{number}.jpg" for label, number in images]
    for (label, number), path in zip(images, paths, strict=True):
        draw(root, f"images/{path}", label, number)
    write(root, "images.txt", *(f"{i} {path}" for i, path in enumerate(paths, 1)))
    write(root, "image_class_labels.txt", *(f"{i} {lab}" for i, (lab, _) in enumerate(images, 1)))
    write(root, "classes.txt", *(f"{label} {name}" for label, name in classes.items()))
    write(root, "train_test_split.txt", *(f"{i} {i % 2}" for i in range(1, len(images) + 1)))
    return {"train": 4, "test": 2}, {"train": 2, "test": 1}, 0


def draw_cars(root: Path) -> Drawn:
    from scipy.io import savemat

    labels = [1, 1, 98, 99, 99]
    kind = [("relative_im_path", object), *((f"bbox_{edge}", object) for edge in "abcd")]
    annotations = np.zeros((1, len(labels)), [*kind, ("class", object), ("test", object)])
    for number, label in enumerate(labels):
        path = f"car_ims/{number + 1:06d}.jpg"
        draw(root, path, label, number)
        annotations[0, number] = (path, 1, 1, 20, 20, np.uint8(label), np.uint8(number % 2))
    names = np.array([[f"Car {label} Ä" for label in range(1, 197)]], dtype=object)
    savemat(root / "cars_annos.mat", {"annotations": annotations, "class_names": names})
    return {"train": 3, "test": 2}, {"train": 2, "test": 1}, 0


def draw_inshop(root: Path) -> Drawn:
    rows = [(1, "train"), (1, "train"), (2, "query"), (2, "gallery"), (7, "query"), (7, "gallery")]
    rows += [(9, "train"), (9, "train")]
    lines = [str(len(rows)), "image_name item_id evaluation_status"]
    for number, (item, split) in enumerate(rows):
        path = f"img/WOMEN/Dresses/id_{item:08d}/{number:02d}_1_front.jpg"
        draw(root, path, item, number)
        lines.append(f"{path}      id_{item:08d}     {split}")
    write(root, "Eval/list_eval_partition.txt", *lines)
    return {"train": 4, "query": 2, "gallery": 2}, {"train": 2, "query": 2, "gallery": 2}, 0


def draw_inaturalist(root: Path) -> Drawn:
    for split, species in (("train", (12, 7000)), ("test", (3,))):
        paths = [f"train_val2018/Aves/{kind}/{kind:04d}{i}.jpg" for kind in species for i in (1, 2)]
        for number, path in enumerate(paths):
            draw(root, path, species[0], number)
        write(root, f"Inat_dataset_splits/Inaturalist_{split}_set1.txt", *paths)
    return {"train": 4, "test": 2}, {"train": 2, "test": 1}, 0


def landmark(part: str, image: str) -> str:
    return f"{part}/{image[0]}/{image[1]}/{image[2]}/{image}.jpg"


def draw_gldv2(root: Path) -> Drawn:
    for number, image in enumerate(IDS[:4]):
        draw(root, landmark("train", image), number // 2, number)
    rows = [f'{image},"http://u/a,b.jpg",{number // 2}' for number, image in enumerate(IDS[:4])]
    write(root, "train.csv", "id,url,landmark_id", *rows)
    return {"train": 4}, {"train": 2}, 0


def draw_gldv2_clean(root: Path) -> Drawn:
    draw_gldv2(root)
    write(root, "metadata/train_clean.csv", "landmark_id,images", f"1,{IDS[2]} {IDS[3]}")
    return {"train": 2}, {"train": 1}, 0


def draw_gldv2_retrieval(root: Path) -> Drawn:
    for number, image in enumerate(IDS[:4]):
        draw(root, landmark("index", image), number, number)
    for number, image in enumerate(IDS[4:8], 4):
        draw(root, landmark("test", image), number, number)
    write(root, "index.csv", "id", *IDS[:4])
    rows = [
        f"{IDS[4]},{IDS[0]} {IDS[2]},Private",
        f"{IDS[5]},{IDS[1]},Public",
        f"{IDS[6]},None,Ignored",
    ]
    write(root, "retrieval_solution_v2.1.csv", "id,images,Usage", *rows)
    return {"database": 4, "query": 2}, {}, 2


def draw_revisited(root: Path, name: str, prefix: str) -> Drawn:
    images = [f"{prefix}_00000{number}" for number in range(6)]
    queries = [f"{prefix}_00010{number}" for number in range(2)]
    for number, image in enumerate((*images, *queries)):
        draw(root, f"jpg/{image}.jpg", number, number)
    judged = [
        {"bbx": list(BOX), "easy": np.array([0, 1]), "hard": [4], "junk": np.array([3])},
        {"bbx": np.array(BOX, dtype=np.float32), "easy": [2], "hard": [0, 5], "junk": []},
    ]
    content = {"gnd": judged, "imlist": images, "qimlist": queries}
    (root / f"gnd_{name}.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return {"database": 6, "query": 2}, {}, 2


def draw_roxford5k(root: Path) -> Drawn:
    return draw_revisited(root, "roxford5k", "all_souls")


def draw_revisitop1m(root: Path) -> Drawn:
    paths = ["0/ab", "0/cd.jpg", "1/ef.jpg"]
    for number, path in enumerate(paths):
        draw(root, f"jpg/{path.removesuffix('.jpg')}.jpg", number, number)
    write(root, "revisitop1m.txt", *paths)
    return {"distractors": 3}, {}, 0


def draw_rparis6k(root: Path) -> Drawn:
    (root / "jpg").mkdir()
    (root / "jpg" / f"{DAMAGED}.jpg").write_text("<html>302 Found</html>")
    return draw_revisited(root, "rparis6k", "paris_defense")


def draw_classic(root: Path, folder: str, prefix: str, begin: str) -> Drawn:
    for number in range(5):
        draw(root, f"{folder}/{prefix}_00000{number}.jpg", number, number)
    box = " ".join(map(str, BOX))
    for number in (1, 2):
        write(root, f"gt_files/souls_{number}_query.txt", f"{begin}{prefix}_00000{number} {box}")
        write(root, f"gt_files/souls_{number}_good.txt", f"{prefix}_00000{number}")
        write(root, f"gt_files/souls_{number}_ok.txt", f"{prefix}_000000", f"{prefix}_000003")
        write(root, f"gt_files/souls_{number}_junk.txt", f"{prefix}_000004")
    return {"database": 5}, {}, 2


def draw_oxford5k(root: Path) -> Drawn:
    return draw_classic(root, "oxbuild_images", "all_souls", "oxc1_")


def draw_paris6k(root: Path) -> Drawn:
    found = draw_classic(root, "paris/defense", "paris_defense", "")
    (root / f"paris/defense/{DAMAGED}.jpg").write_text("<html>302 Found</html>")
    with (root / "gt_files/souls_1_ok.txt").open("a") as file:
        file.write(f"{DAMAGED}\n")
    return found


def draw_holidays(root: Path) -> Drawn:
    for group, number in ((1000, 3), (1001, 2)):
        for place in range(number):
            draw(root, f"jpg/{group}{place:02d}.jpg", group, place)
    return {"database": 5}, {"database": 2}, 2


DRAWERS: dict[str, Callable[[Path], Drawn]] = {
    "roxford5k": draw_roxford5k,
    "rparis6k": draw_rparis6k,
    "revisitop1m": draw_revisitop1m,
    "oxford5k": draw_oxford5k,
    "paris6k": draw_paris6k,
    "holidays": draw_holidays,
    "sop": draw_sop,
    "cub": draw_cub,
    "cars": draw_cars,
    "inshop": draw_inshop,
    "inaturalist": draw_inaturalist,
    "gldv2": draw_gldv2,
    "gldv2_clean": draw_gldv2_clean,
    "gldv2_retrieval": draw_gldv2_retrieval,
}
