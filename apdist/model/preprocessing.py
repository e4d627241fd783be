"""How a model of the hub wants its pixels: what its own preprocessor file says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apdist.config.json_text import read_json
from apdist.model.traits import IMAGENET_MEAN, IMAGENET_STD

_FILES = ("preprocessor_config.json", "processor_config.json")
"""A processor of pictures and texts may keep that of the pictures in the second."""
_HALF = (0.5, 0.5, 0.5)
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_BY_KIND = {"siglip_vision_model": (_HALF, _HALF), "clip_vision_model": _OPENAI}
"""Mean and deviation of models without such a file; those of ImageNet for all others."""
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""Pillow's numbers of them."""


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """What the file says; empty where there is none."""

    mean: tuple[float, ...] = ()
    """Of pixels in [0, 1], by colour."""
    std: tuple[float, ...] = ()
    """Deviation of pixels in [0, 1], by colour."""
    side: int = 0
    """Of the images that the model sees; 0: not told."""
    interpolation: str = "bicubic"
    """A name of Pillow's filters."""

    def of_traits(self, kind: str) -> dict[str, Any]:
        """The part of `Traits` that they are, for a model of transformers' type ``kind``."""
        mean, std = _BY_KIND.get(kind, (IMAGENET_MEAN, IMAGENET_STD))
        return {
            "mean": self.mean or mean,
            "std": self.std or std,
            "interpolation": self.interpolation,
        }


def read_pixels(name: str) -> Pixels:
    """What the model called ``name``, or in the folder of that name, says of its pixels.

    Raises:
        ValueError: its file cannot be understood.
    """
    for file in _FILES:
        path = Path(name) / file if Path(name).is_dir() else _fetched(name, file)
        if path is None or not path.is_file():
            continue
        try:
            told = read_json(path.read_text())
            told = told.get("image_processor", told)
            if "image_mean" in told or "size" in told:
                return _understood(told)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            raise ValueError(f"{file} of it cannot be understood ({error})") from error
    return Pixels()


def _fetched(name: str, file: str) -> Path | None:
    """The file of a model on the hub; None where it has no such file."""
    from transformers.utils import cached_file

    found = cached_file(
        name,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    return None if found is None else Path(found)


def _understood(told: dict[str, Any]) -> Pixels:
    mean, std = _three(told.get("image_mean", _HALF)), _three(told.get("image_std", _HALF))
    if not told.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    # The network starts from pixels in [0, 1]; a file may scale bytes in another way.
    scale = (
        255 * float(told.get("rescale_factor", 1 / 255)) if told.get("do_rescale", True) else 255
    )
    shift = float(bool(told.get("rescale_offset", False)))
    side = _side(told.get("crop_size")) if told.get("do_center_crop") else 0
    return Pixels(
        mean=tuple((m + shift) / scale for m in mean),
        std=tuple(s / scale for s in std),
        side=side or _side(told.get("size")),
        interpolation=_FILTERS[int(told.get("resample", 3))],
    )


def _three(values: Any) -> tuple[float, ...]:
    """One number for each colour."""
    found = tuple(float(v) for v in values) if isinstance(values, list | tuple) else (values,) * 3
    if len(found) != 3 or not all(isinstance(v, float) for v in found):
        raise ValueError(f"expected a number for each of 3 colours, got {values}")
    return found


def _side(size: Any) -> int:
    """The shorter side in pixels; 0 where it is not told."""
    if isinstance(size, dict):
        told = [size[key] for key in ("height", "width", "shortest_edge") if size.get(key)]
        return min(map(int, told), default=0)
    return int(size or 0)
