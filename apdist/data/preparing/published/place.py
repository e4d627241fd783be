"""A folder as somebody has unpacked it: where its lists and pictures are."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from apdist.data.preparing.folder import pictures_below
from apdist.data.preparing.published.description import PublishedSet
from apdist.data.preparing.tally import Tally
from apdist.data.storage.local import path_hint
from apdist.data.text import decoded, shown_name

DAMAGED = "known to be damaged: left out, as by everybody"


@dataclass
class Place:
    """ROOT, and what lies there."""

    which: PublishedSet
    root: Path
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        """Refuse a folder that is not the one.

        Raises:
            ValueError: it lacks a list, or the folders of images.
        """
        if not self.root.is_dir():
            advice = path_hint(self.root) if not self.root.exists() else ""
            raise ValueError(
                f"{self.root} is no folder{advice}; expected the unpacked {self.which.name}, with "
                f"{' and '.join(self.which.lists) or 'its images'}: {self.which.address}"
            )
        for name in self.which.lists:
            self.files(name)
        if not self.folders:
            names = " or ".join(self.which.folders)
            raise ValueError(
                f"{self.root} holds no folder {names} with the images; unpack them there: "
                f"{self.which.address}"
            )

    def files(self, name: str) -> list[Path]:
        """The files of this name, or pattern, in ROOT, or else in the first folder that has some.

        Raises:
            ValueError: there is none.
        """
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        for folder in (self.root, *folders):
            if found := sorted(path for path in folder.glob(name) if path.is_file()):
                return found
        above = next((path for path in self.root.resolve().parents[:2] if _holds(path, name)), None)
        below = next((path.parent for path in self.root.glob(f"*/*/{name}")), None)
        near = f"; {above or below} does: give that" if above or below else ""
        raise ValueError(
            f"{self.root} holds no {name}{near}; give the folder that contains it: "
            f"download from {self.which.address}"
        )

    def file(self, name: str) -> Path:
        """The first of them."""
        return self.files(name)[0]

    @cached_property
    def folders(self) -> list[str]:
        """The folders of images that exist, below ROOT."""
        return [name for name in self.which.folders if (self.root / name).is_dir()]

    @cached_property
    def pictures(self) -> set[str]:
        """Path below ROOT of each picture."""
        found: set[str] = set()
        for folder in self.folders:
            # What is no picture is the publisher's; what was lost will be missing.
            for path in pictures_below(self.root / folder, Tally())[0]:
                below = shown_name(f"{folder}/{path}" if folder else path)
                if below.rpartition("/")[2] in self.which.damaged:
                    self.tally.add(DAMAGED, below)
                else:
                    found.add(below)
        return found

    @cached_property
    def by_name(self) -> dict[str, str]:
        """Path below ROOT of each picture by its name without folders and extension."""
        names: dict[str, str] = {}
        for path in sorted(self.pictures):
            names.setdefault(PurePosixPath(path).stem, path)
        return names

    def named(self, name: str) -> str:
        """Path below ROOT of the picture ``name``; where it would be, if it is not there."""
        return self.by_name.get(name, f"{name}.jpg")


def _holds(folder: Path, name: str) -> bool:
    return any(folder.glob(name))


def text_lines(path: Path) -> list[str]:
    """Lines of a list, whatever their ends and with or without a byte order mark.

    Raises:
        ValueError: it cannot be read, or is no text.
    """
    try:
        return decoded(path.read_bytes()).splitlines()
    except UnicodeDecodeError as error:
        reason = error.reason
        raise ValueError(f"{path} is no text in UTF-8 ({reason}); download it again") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({(error.strerror or '').lower()})") from error


def cells(path: Path, *columns: str, skip: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of each line with words between spaces, after the first ``skip`` ones.

    Raises:
        ValueError: a line has another number of words, as where the file was cut.
    """
    for number, line in enumerate(text_lines(path), 1):
        words = line.split()
        if number <= skip or not words:
            continue
        if len(words) != len(columns):
            raise ValueError(
                f"{path} line {number}: expected {' '.join(columns)}, got {line.strip()[:60]!r}; "
                "the file is damaged or cut: download it again"
            )
        yield number, words


def integer(path: Path, number: int, name: str, text: str) -> int:
    """A whole number in a list.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(
            f"{path} line {number}: {name} {text[:60]!r} is no whole number; download it again"
        )
    return int(text)
