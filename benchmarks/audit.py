"""What an audit finds of faults that are planted: precision and recall for each kind.

    python benchmarks/audit.py SHARDS --seed 1
    python benchmarks/audit.py SHARDS --run RUN --classes 200 --seed 1

2 % of the labels are another class's; 1 % of the images have a copy of each kind, in a split drawn
at random; a tenth of the classes are two, each image under a name drawn at random. What else is
found was there before, or is wrong: of copies it is counted, of labels and classes it lowers the
precision, though some of it may be right.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Set
from pathlib import Path

import torch
from planting import COPIES, Planted, plant

from apdist.audit.auditing import audit
from apdist.audit.findings import Findings
from apdist.audit.looks import look
from apdist.config import ModelConfig
from apdist.data.catalogue.catalogue import Catalogue, read_catalogue
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import load_model
from apdist.retrieval.describe import describe_split


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, "planted"))
        planted = plant(arguments.shards, out, num_classes=arguments.classes, seed=arguments.seed)
        catalogue = read_catalogue(out)
        start = time.process_time()
        looks = look(catalogue, num_threads=arguments.threads)
        looked = time.process_time()
        descriptors = described(catalogue, arguments)
        began = time.process_time()
        found = audit(catalogue, looks, descriptors)
        done = time.process_time()
        print(
            f"{len(catalogue)} images; CPU seconds: looking {looked - start:.0f}, describing "
            f"{began - looked:.0f}, comparing {done - began:.0f}; "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB at most"
        )
        tell(catalogue, planted, found)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shards")
    parser.add_argument("--run", default="", help="its model in place of the ImageNet network")
    parser.add_argument("--classes", type=int, default=0, help="so many at random; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--thumbnails", action="store_true", help="without a network")
    return parser.parse_args()


def described(catalogue: Catalogue, arguments: argparse.Namespace) -> torch.Tensor | None:
    if arguments.thumbnails:
        return None
    if arguments.run:
        model = load_model(arguments.run)
        network, fit = model.network, model.fit
    else:
        net = DescriptorNet(ModelConfig(backbone="efficientnet_lite0", dim=0))
        network, fit = net, net.fit(160, "crop")
    return describe_split(network, catalogue, fit=fit, progress=lambda _: None)


def tell(catalogue: Catalogue, planted: Planted, found: Findings) -> None:
    sources = catalogue.column("source").to_pylist()
    rows = {source: row for row, source in enumerate(sources)}
    print("| planted | how many | found | recall | precision |")
    print("|---|---|---|---|---|")
    group_of = {row: n for n, group in enumerate(found.duplicates) for row in group.rows}
    for kind in COPIES:
        pairs = [(rows[a], rows[b]) for a, (b, its) in planted.copies.items() if its == kind]
        hits = sum(a in group_of and group_of[a] == group_of.get(b) for a, b in pairs)
        print(f"| copies: {kind} | {len(pairs)} | {hits} | {hits / max(1, len(pairs)):.3f} | |")
    copied = {rows[name] for pair in planted.copies.items() for name in (pair[0], pair[1][0])}
    others = [group for group in found.duplicates if not copied & set(group.rows)]
    if found.has_descriptors:
        doubted = {suspicion.row: suspicion.suggested for suspicion in found.labels}
        line("flipped labels", {rows[name] for name in planted.flipped}, set(doubted))
        names = {
            int(n): str(s)
            for n, s in zip(
                catalogue.labels, catalogue.column("label_name").to_pylist(), strict=True
            )
        }
        halves = {frozenset((name, f"{name}'")) for name in planted.halved}
        line(
            "classes in two",
            halves,
            {frozenset((names[p.first], names[p.second])) for p in found.one_classes},
        )
        right = [
            names[doubted[rows[s]]].rstrip("'") == name
            for s, name in planted.flipped.items()
            if rows[s] in doubted
        ]
        print(f"\nthe right class is suggested for {sum(right)} of {len(right)} labels found")
        print(f"{len(found.outliers)} outliers, none planted")
    print(f"{len(others)} groups of copies that were not planted:")
    for group in others[:40]:
        print(
            f"  {group.how} {group.score:.4f} " + " ".join(sources[row] for row in group.rows[:3])
        )


def line(what: str, planted: Set[object], found: Set[object]) -> None:
    hits = len(planted & found)
    print(
        f"| {what} | {len(planted)} | {hits} | {hits / max(1, len(planted)):.3f} | "
        f"{hits / max(1, len(found)):.3f} |"
    )


if __name__ == "__main__":
    main()
