"""Samples of a WebDataset shard, and the rules that say which label, name and split one has."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from apdist.config.json_text import read_json
from apdist.data.preparing.kinds import SYSTEM, hidden_kind
from apdist.data.preparing.splits import SPLIT_PATTERN
from apdist.data.preparing.tally import Tally
from apdist.data.preparing.tars import DamageError, Member
from apdist.data.text import decoded, shown_name

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "ppm", "jp2", "avif")
"""In this order: the first that a sample has is its image."""
MEMBER_NAME = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")
"""Key and extension as `webdataset` tells them apart: at the first dot of the file's name."""
META_NAME = re.compile(r"__[^/]*__($|/)")
META = "WebDataset's own member"
NO_EXTENSION = "member without an extension"
MEMBERS_NAMED = 8
FIRST_DOT = "a key ends at the first dot of a file's name, so its other dots must become _"


class SampleError(ValueError):
    """A sample that cannot be used; the message says why."""


@dataclass
class Sample:
    """Neighbouring members of one key."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    """By extension, in lower case."""
    problem: str = ""
    is_cut: bool = False
    """The shard is damaged behind it; whether it had more members nobody knows."""

    @property
    def offset(self) -> int:
        """Where its first member lies."""
        return next(iter(self.members.values())).offset


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Where label, class name, split and image of a sample are found."""

    label: str = "cls"
    """`cls`, `json:FIELD`, or `key:PATTERN` with one group."""
    names: str = ""
    """`txt`, `json:FIELD`, or empty: the label is its own name."""
    split: str = "train"
    """A word, `json:FIELD`, or `shard:PATTERN` with one group."""
    image_extension: str = ""
    """With or without its dot. Empty: the first of IMAGE_EXTENSIONS."""

    def __post_init__(self) -> None:
        kinds = {"label": ("cls", "json", "key"), "names": ("", "txt", "json")}
        for option, known in kinds.items():
            kind, _, rest = getattr(self, option).partition(":")
            if kind not in known or (kind in ("json", "key")) != bool(rest):
                forms = [k + {"json": ":FIELD", "key": ":PATTERN"}.get(k, "") for k in known if k]
                raise ValueError(
                    f"--{option} must be {' or '.join(forms)}, got {getattr(self, option)!r}"
                )
        kind, colon, rest = self.split.partition(":")
        if (colon and (kind not in ("json", "shard") or not rest)) or (
            not colon and not SPLIT_PATTERN.fullmatch(kind)
        ):
            raise ValueError(
                "--split must be a plain word like train, json:FIELD or shard:PATTERN, "
                f"got {self.split!r}"
            )
        for option, text in (("label", self.label), ("split", self.split)):
            if text.startswith(("key:", "shard:")):
                _check_pattern(option, text.partition(":")[2])

    @property
    def image(self) -> str:
        """The extension of the image as members have it; empty: the first of IMAGE_EXTENSIONS."""
        return self.image_extension.lower().lstrip(".")

    @property
    def extensions(self) -> set[str]:
        """Those of which a sample is made; files with others may lie beside them."""
        kinds = {rule.partition(":")[0] for rule in (self.label, self.names, self.split)}
        return {self.image, *IMAGE_EXTENSIONS, *(kinds & {"cls", "txt", "json"})} - {""}


def _check_pattern(option: str, pattern: str) -> None:
    try:
        num_groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"--{option}: {pattern!r} is no regular expression ({error})") from error
    if num_groups != 1:
        raise ValueError(
            f"--{option}: {pattern!r} needs exactly one group ( ) around the part to take, "
            f"has {num_groups}"
        )


def read_samples(members: Iterable[Member], tally: Tally) -> Iterator[Sample]:
    """Neighbouring members with one key, as `webdataset` groups them; others are counted.

    Raises:
        DamageError: passed on from ``members``, after the sample before the damage.
    """
    sample = Sample("")
    try:
        for member in members:
            match = MEMBER_NAME.match(member.name)
            if kind := _passed_over(member.name):
                tally.add(kind, shown_name(member.name))
            if match is None or kind:
                continue
            key, extension = match[1], match[2].lower()
            if key != sample.key:
                if sample.members:
                    yield sample
                sample = Sample(key)
            if extension in sample.members:
                sample.problem = f"has two members .{extension}"
            sample.members.setdefault(extension, member)
    except DamageError as error:
        if not sample.members:
            raise
        sample.is_cut = True
        yield sample
        raise DamageError(
            f"{error}, in or after sample {sample.key!r} at byte {sample.offset}"
        ) from error
    if sample.members:
        yield sample


def _passed_over(name: str) -> str:
    """Why a member belongs to no sample; else empty."""
    *folders, file = name.split("/")
    if kind := next((kind for kind in map(hidden_kind, [*folders, file]) if kind == SYSTEM), ""):
        return kind
    if kind := hidden_kind(file):
        return kind
    if META_NAME.match(name):
        return META
    return "" if MEMBER_NAME.match(name) else NO_EXTENSION


def is_stray(sample: Sample, rules: Rules) -> bool:
    """Whether nothing in it is part of a sample: `Thumbs.db`, `notes.txt`."""
    last = {extension.rpartition(".")[2] for extension in sample.members}
    return not (last | sample.members.keys()) & rules.extensions


def is_wanted(name: str, rules: Rules) -> bool:
    """Whether the bytes of the member ``name`` may be needed."""
    match = MEMBER_NAME.match(name)
    last = match[2].lower().rpartition(".")[2] if match else ""
    extension = match[2].lower() if match else ""
    return bool(match) and not {last, extension}.isdisjoint(rules.extensions)


def image_of(sample: Sample, rules: Rules) -> Member:
    """The member that is the sample's image.

    Raises:
        SampleError: there is none, or it is not clear which.
    """
    extension = rules.image or _image_extension(sample)
    if extension not in sample.members:
        raise SampleError(f"has no .{extension}; it has {_there(sample)}{_dot_hint(sample)}")
    return _sound(sample, extension)


def _image_extension(sample: Sample) -> str:
    for extension in IMAGE_EXTENSIONS:
        if extension in sample.members:
            return extension
    longer = [e for e in sample.members if e.rpartition(".")[2] in IMAGE_EXTENSIONS]
    if not longer:
        raise SampleError(
            f"has no image member; it has {_there(sample)}, and members of one sample must be "
            "neighbours in the tar (tar --sort=name)"
        )
    if len(longer) > 1:
        raise SampleError(
            f"has several images ({_there(sample)}); say which with --image-extension"
            f"{_dot_hint(sample)}"
        )
    return longer[0]


def _sound(sample: Sample, extension: str) -> Member:
    member = sample.members[extension]
    if member.fault:
        raise SampleError(f"has a .{extension} that is {member.fault}")
    return member


def _there(sample: Sample) -> str:
    shown = [f".{extension}" for extension in list(sample.members)[:MEMBERS_NAMED]]
    return ", ".join(shown) + (", ..." if len(sample.members) > MEMBERS_NAMED else "")


def _dot_hint(sample: Sample) -> str:
    """What is wrong where names hold dots of their own."""
    return f" ({FIRST_DOT})" if any("." in extension for extension in sample.members) else ""


def label_of(sample: Sample, rules: Rules) -> str:
    """The label as text.

    Raises:
        SampleError: it is missing.
    """
    return _found(rules.label, "label", sample, sample.key)


def name_of(sample: Sample, rules: Rules) -> str:
    """The name of the class; empty where the rules name none.

    Raises:
        SampleError: it is missing.
    """
    return _found(rules.names, "names", sample, "") if rules.names else ""


def split_of(sample: Sample, rules: Rules, shard: str) -> str:
    """The split.

    Raises:
        SampleError: it is missing or no plain word.
    """
    if ":" not in rules.split:
        return rules.split
    split = _found(rules.split, "split", sample, shard)
    if not SPLIT_PATTERN.fullmatch(split):
        raise SampleError(f"has the split {split!r}, which is no plain word like train")
    return split


def _found(rule: str, option: str, sample: Sample, searched: str) -> str:
    kind, _, rest = rule.partition(":")
    if kind == "json":
        return _json_field(sample, rest, option)
    if kind in ("key", "shard"):
        match = re.search(rest, searched)
        if match is None or not match[1]:
            raise SampleError(f"has a {kind} {searched!r} that --{option} {rule} does not match")
        return match[1]
    if kind not in sample.members:
        raise SampleError(
            f"has no .{kind} for --{option} {rule}; it has {_there(sample)}{_dot_hint(sample)}"
            f"{_folder_hint(sample, option)}"
        )
    return _text(sample, kind)


def _folder_hint(sample: Sample, option: str) -> str:
    """How the class is said where folders are classes, as in a tar of IMAGES/<class>/<image>."""
    is_below = option == "label" and "/" in sample.key.removeprefix("./")
    return " (if its folder is the class: --label 'key:([^/]+)/[^/]*$')" if is_below else ""


def _text(sample: Sample, extension: str) -> str:
    try:
        text = decoded(_sound(sample, extension).data).strip()
    except UnicodeDecodeError as error:
        raise SampleError(f"has a .{extension} that is no UTF-8 text") from error
    if not text:
        raise SampleError(f"has an empty .{extension}")
    return text


def _json_field(sample: Sample, name: str, option: str) -> str:
    if "json" not in sample.members:
        raise SampleError(f"has no .json for --{option} json:{name}{_dot_hint(sample)}")
    try:
        fields: Any = read_json(_sound(sample, "json").data)
    except ValueError as error:
        raise SampleError(f"has a .json that cannot be read ({error})") from error
    if not isinstance(fields, dict) or name not in fields:
        there = ", ".join(fields) if isinstance(fields, dict) else "no object"
        raise SampleError(f"lacks the field {name!r} in its .json, which has {there}")
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise SampleError(f"has {value!r} in the field {name!r} of its .json; expected text or int")
    return str(value)
