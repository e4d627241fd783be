"""What `fuzz.py` feeds: for each kind of input some valid ones, and the part of the product."""

from __future__ import annotations

import base64
import copy
import io
import json
import random
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from apdist.config import Config, to_json
from apdist.data.catalogue.catalogue import CATALOGUE_NAME, read_catalogue
from apdist.data.images import Fit, evaluation_image
from apdist.data.preparing.cataloguing import catalogue_shards
from apdist.data.preparing.checking import check_shards
from apdist.data.preparing.finding import expand_braces
from apdist.data.preparing.samples import Rules
from apdist.data.preparing.shards import Encoded, Item, write_shards
from apdist.retrieval.filters import parse_filter
from apdist.retrieval.querying.queries import pictures_at
from apdist.retrieval.stored.folder import read_settings
from apdist.serving.limits import Limits, RefusedError
from apdist.serving.uploads import check_box, check_picture, query_of
from apdist.training.events import StepDone
from apdist.training.events import to_json as event_json
from apdist.training.run_folder import checkpoint
from apdist.training.run_folder.pages import page_name
from apdist.training.run_folder.runs import create_run, open_run
from apdist.training.sweeps.space import losses_of, read_space
from apdist_verbs.start.start import read_file

REFUSALS = (ValueError, OSError, RefusedError)
"""What the product documents: a verb tells them in one line, the service as an answer."""
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 3, 1 << 31, -(1 << 63), 1 << 63, 1 << 70, 0.5, 1e400, -1e400),
    *(float("nan"), "", "a", "..", "../../x", "/etc/passwd", "a\0b", "a\nb", "\ud800", "é" * 300),
    *("nan", "1", "https://h/x?sig=y", "s3://", "x://y", [], {}, [None], [[]], {"a": 1}, [1, "a"]),
)


@dataclass(frozen=True)
class Target:
    """A kind of input."""

    seeds: list[bytes]
    """Valid ones."""
    run: Callable[[bytes], object]
    altered: Callable[[bytes, random.Random], bytes] | None = None
    """A change that keeps the form, as another value in JSON."""


def catalogue(folder: Path) -> Target:
    """index.parquet beside its shards, read, checked against them and divided."""
    _write_set(folder)
    place = folder / CATALOGUE_NAME

    def run(data: bytes) -> None:
        place.write_bytes(data)
        found = read_catalogue(str(folder))
        for split in found.splits():
            found.select(split)
        found.fingerprint()
        check_shards(found, deep=True, num_threads=1)

    return Target([place.read_bytes()], run, _altered_table)


def _altered_table(data: bytes, order: random.Random) -> bytes:
    table = pq.read_table(io.BytesIO(data))
    meta = json.loads(table.schema.metadata[b"apdist"])
    if order.random() < 0.5:
        meta = altered_value(meta, order)
    else:
        name = order.choice(table.column_names)
        values, row = table[name].to_pylist(), order.randrange(len(table))
        values[row] = order.choice(ODD_VALUES)
        table = _with_column(table, name, values)
    target = io.BytesIO()
    text = json.dumps(meta)
    pq.write_table(table.replace_schema_metadata({"apdist": text}), target)
    return target.getvalue()


def _with_column(table: pa.Table, name: str, values: list[Any]) -> pa.Table:
    """``table`` with a column of whatever kind its values have; as it was where they have none."""
    place = table.schema.get_field_index(name)
    for kind in (table.schema.field(name).type, None, pa.string()):
        try:
            plain = kind.value_type if kind and pa.types.is_dictionary(kind) else kind
            return table.set_column(place, name, pa.array(values, plain))
        except (pa.ArrowException, OverflowError, TypeError, ValueError, UnicodeError):
            continue
    return table


def tar(folder: Path) -> Target:
    """A shard of others, catalogued."""
    _write_set(folder / "own")
    shard = next((folder / "own").glob("*.tar")).read_bytes()
    place = folder / "a.tar"
    rules = (Rules(label="json:label"), Rules(label="key:(.)", split="shard:(.)"), Rules())

    def run(data: bytes) -> None:
        place.write_bytes(data[1:])
        for path in (folder / ".apdist-index").glob("*"):
            path.unlink()
        rule = rules[data[0] % len(rules)] if data else rules[0]
        catalogue_shards(str(folder), ["a.tar"], str(folder), rule, skip=True, num_processes=1)

    def altered(data: bytes, order: random.Random) -> bytes:
        names = [
            "a.png",
            "a.cls",
            "a.json",
            "../b.png",
            "a\udcffb.png",
            "x" * 300,
            "c.cls",
            "a.txt",
        ]
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w", format=order.randrange(3)) as made:
            for _ in range(order.randrange(6)):
                info = tarfile.TarInfo(order.choice(names))
                value = json.dumps(order.choice(ODD_VALUES)).encode()
                content = order.choice((value, _png(1, 1), b'{"label": ' + value + b"}", b"\xff"))
                info.type = order.choice((tarfile.REGTYPE,) * 4 + (tarfile.SYMTYPE, b"V"))
                info.linkname = "../../x" if info.type == tarfile.SYMTYPE else ""
                info.size = len(content) if info.isreg() else 0
                info.pax_headers = {"path": "../x"} if order.random() < 0.1 else {}
                with suppress(ValueError):  # a name that the format does not hold
                    made.addfile(info, io.BytesIO(content))
        return data[:1] + target.getvalue()

    other = _tar({"a.png": _png(0, 0), "a.cls": b"1", "a.json": b'{"label": 1}'})
    return Target([b"\0" + shard, b"\1" + other, b"\2" + other], run, altered)


def _tar(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as made:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return target.getvalue()


def config(folder: Path) -> Target:
    """A file of options, in JSON or, from its second letter on, TOML."""
    toml = b"T[training]\nsteps = 5\nlearning_rate = 0.1\n[loss]\nnum_bins = 9\n"

    def run(data: bytes) -> None:
        place = folder / ("a.toml" if data.startswith(b"T") else "a.json")
        place.write_bytes(data[1:])
        read_file(str(place), Config())

    return Target([b"J" + to_json(Config()).encode(), toml], run, _altered_json(1))


def space(folder: Path) -> Target:
    """A search space."""
    place = folder / "space.toml"
    text = b"""["training.learning_rate"]
distribution = "loguniform"
low = 1e-4
high = 1e-2
["loss.num_bins"]
distribution = "choice"
values = [10, 20, 40]
["training.freeze"]
distribution = "choice"
values = [[], ["backbone.*"]]
["data.group_size"]
distribution = "int"
low = 2
high = 4
"""
    words = (b"1e-4", b"1e-2", b"[10, 20, 40]", b'"choice"', b"[[], ", b'"int"', b"= 2", b"= 4")
    odd = (b"5", b"nan", b"inf", b"[]", b'"x"', b"{a = 1}", b"1979-05-27", b"-1", b"true", b"[[1]]")
    names = (b"loss.num_bins", b"training.freeze", b"data.group_size", b"training.learning_rate")
    others = (b"loss.kind", b"training.steps", b"training.ema", b"lora.rank", b"a", b"loss.margin")

    def run(data: bytes) -> None:
        place.write_bytes(data)
        dimensions = read_space(place, Config())
        losses_of(dimensions, Config())
        for dimension in dimensions:
            dimension.corners()

    def altered(data: bytes, order: random.Random) -> bytes:
        for _ in range(order.choice((1, 2))):
            old, new = order.choice(((words, odd), (names, names + others)))
            data = data.replace(order.choice(old), order.choice(new))
        return data

    return Target([text], run, altered)


def marker(folder: Path) -> Target:
    """Files of a run's folder: the marker of a checkpoint, run.json, the history."""
    run_uri = create_run(
        Config(run=type(Config().run)(output=str(folder), name="one")), "glyphs"
    ).uri
    step = StepDone(step=1, time_ms=1, figures={"loss": 0.5})
    line = json.dumps(event_json(step)).encode() + b"\n"
    page = page_name(0, line)
    (Path(run_uri) / "history").mkdir()
    (Path(run_uri) / "history" / page).write_bytes(line)
    made = checkpoint.Marker(step=1, config_hash="a", data_hash="b", history=(page,))
    uri, _ = checkpoint.save_checkpoint(run_uri, {"model": {"a": torch.ones(2)}}, made)
    places = [
        Path(uri) / "meta-0.json",
        Path(run_uri) / "run.json",
        Path(run_uri) / "metrics.jsonl",
    ]
    places[2].write_bytes(line)
    whole = [place.read_bytes() for place in places]

    def run(data: bytes) -> None:
        for place, content in zip(places, whole, strict=True):
            place.write_bytes(content)
        places[data[0] % 3 if data else 0].write_bytes(data[1:])
        opened = open_run(run_uri)
        _ = opened.is_complete, opened.steps_done
        checkpoint.newest_sound(run_uri)

    def altered(data: bytes, order: random.Random) -> bytes:
        values = altered_value(json.loads(data[1:]), order)
        if data[0] == 0 and isinstance(values, dict) and order.random() < 0.8:
            values.pop("sha256", None)
            body = {name: value for name, value in values.items() if name != "format"}
            try:
                values["sha256"] = checkpoint._seal(checkpoint.Marker(**body))
            except TypeError:
                values["sha256"] = "x"
        return data[:1] + json.dumps(values).encode() + b"\n"

    return Target([bytes([i]) + content for i, content in enumerate(whole)], run, altered)


def search(folder: Path) -> Target:
    """Conditions of a search, a line each; lists of queries; braces; index.json."""
    count = 4
    entries = pa.table(
        {
            "key": ["a", "b", "c,d", None],
            "label": pa.array([1, 2, None, -4]),
            "share": [0.5, float("nan"), None, 1e300],
            "split": pa.array(["train", "test", "train", "test"]).dictionary_encode(),
            "good": [True, False, None, True],
        }
    )
    conditions = b"F" + b"\n".join(
        [
            b"key=a",
            b"label>=1",
            b"share<0.7",
            b"split in train,test",
            b'key in ["c,d"]',
            b"good=true",
        ]
    )
    settings = {
        "format": "apdist.index",
        "format_version": 2,
        "kind": "exact",
        "dim": 4,
        "count": 1,
        "model_id": "a",
        "generation": f"generation-{'0' * 16}",
        "files": {},
    }
    valid = [
        conditions,
        b"Ta.png\n/x/b.png\nhttps://h/c.png?sig=1\n",
        b"Cpath,label\na.png,1\nb.png,2\n",
        b"Ba-{000..003}.tar\nc-{a,b}.tar",
        b"I" + json.dumps(settings).encode(),
    ]

    def run(data: bytes) -> None:
        kind, body = data[:1], data[1:]
        if kind in (b"T", b"C"):
            place = folder / ("a.txt" if kind == b"T" else "a.csv")
            place.write_bytes(body)
            pictures_at([str(place)])
        elif kind == b"I":
            (folder / "index.json").write_bytes(body)
            read_settings(str(folder))
        elif kind == b"B":
            for line in body.decode(errors="surrogateescape").split("\n"):
                expand_braces(line)
        else:
            lines = body.decode(errors="surrogateescape").split("\n")
            assert len(parse_filter(lines).rows(entries)) == count

    def altered(data: bytes, order: random.Random) -> bytes:
        if data[:1] == b"I":
            return b"I" + json.dumps(altered_value(json.loads(data[1:]), order)).encode()
        signs = ("=", "!=", "<", "<=", ">", ">=", " in ")
        values = [*(str(value) for value in ODD_VALUES), *(json.dumps(v) for v in ODD_VALUES)]
        lines = [
            f"{order.choice(entries.column_names)}{order.choice(signs)}{order.choice(values)}"
            for _ in range(order.randrange(1, 4))
        ]
        return b"F" + "\n".join(lines).encode(errors="surrogatepass")

    return Target(valid, run, altered)


def upload(folder: Path) -> Target:
    """Bodies that a server is sent: pictures, and JSON around them."""
    del folder
    body = {"image": base64.b64encode(_png(0, 0)).decode(), "k": 3, "box": [0, 0, 8, 8]}
    body |= {"where": ["label_name=cat"], "least_score": 0.1}
    pictures = [_picture(0, 0, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")]
    limits = Limits(pixels=1_000_000)

    def run(data: bytes) -> None:
        kind = "application/json" if data.startswith(b"J") else "image/png"
        query = query_of(data[1:], kind, {}, limits)
        parse_filter(query.where)
        if query.image:
            size = check_picture(query.image, limits)
            if query.box is not None:
                check_box(query.box, size)
            evaluation_image(query.image, Fit(side=24), query.box)

    valid = [b"J" + json.dumps(body).encode(), *(b"P" + picture for picture in pictures)]
    return Target(valid, run, _altered_json(1))


TARGETS: dict[str, Callable[[Path], Target]] = {
    "catalogue": catalogue,
    "tar": tar,
    "config": config,
    "space": space,
    "marker": marker,
    "search": search,
    "upload": upload,
}


def altered_value(tree: Any, order: random.Random) -> Any:
    """``tree`` of JSON with an odd value in place of one of its parts, or a part more or less."""
    tree = copy.deepcopy(tree)
    for _ in range(order.choice((1, 1, 2))):
        parts: list[tuple[Any, Any]] = []
        todo = [tree]
        while todo:
            node = todo.pop()
            if isinstance(node, dict | list):
                keys = list(node) if isinstance(node, dict) else range(len(node))
                parts += [(node, key) for key in keys]
                todo += [node[key] for key in keys]
        if not parts:
            return order.choice(ODD_VALUES)
        node, key = order.choice(parts)
        chance = order.random()
        if chance < 0.15:
            del node[key]
        elif chance < 0.25 and isinstance(node, dict):
            node[str(order.choice(ODD_VALUES))] = node[key]
        else:
            node[key] = copy.deepcopy(order.choice(ODD_VALUES))
    return tree


def _altered_json(begin: int) -> Callable[[bytes, random.Random], bytes]:
    """Another value in the JSON behind the first ``begin`` bytes; else another byte."""

    def altered(data: bytes, order: random.Random) -> bytes:
        try:
            tree = json.loads(data[begin:])
        except ValueError:
            place = order.randrange(begin, len(data))
            return data[:place] + bytes([order.randrange(256)]) + data[place + 1 :]
        return data[:begin] + json.dumps(altered_value(tree, order)).encode()

    return altered


def _write_set(folder: Path) -> None:
    items = [
        Item(f"{label}/{number}.png", label, f"class {label}", split, (label, number))
        for split, labels in (("train", (0, 1)), ("test", (2, 3)))
        for label in labels
        for number in range(3)
    ]
    write_shards(items, _encoded, str(folder), shard_bytes=1 << 20, on_refused=_refused)


def _refused(item: Item, reason: str) -> None:
    raise AssertionError(f"{item.source} {reason}")


def _encoded(content: tuple[int, int]) -> Encoded:
    return Encoded(_png(*content), "png", 16, 16)


def _png(label: int, number: int) -> bytes:
    return _picture(label, number, "PNG")


def _picture(label: int, number: int, kind: str) -> bytes:
    pixels = np.random.default_rng([label, number]).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, kind)
    return target.getvalue()
