"""How well an exported graph agrees with its run on real images, and by which way to resize.

The run's descriptor of each image, as a file and as the same pixels decoded at full size, against
that of the graph of `apdist export` (in torch, which is what is written to files), and of the same
network behind the antialiased resizing that frameworks have (ONNX's `Resize` with antialias,
`torch.nn.functional.interpolate`): the square in the middle at whole pixels, no rounding. With
--onnx FILE that file is compared, too. For runs that crop.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, median

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from apdist.data import read_catalogue
from apdist.data.images import open_image
from apdist.data.loading.reader import ImageReader
from apdist.export.graph import PixelsToDescriptors
from apdist.export.onnx_file import OnnxModel
from apdist.export.parity import cosine, described, stored
from apdist.model.descriptor import DescriptorNet
from apdist.model.pretrained import TrainedModel, load_model
from apdist.retrieval.recipe import Recipe

Described = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--onnx", default="")
    given = parser.parse_args()
    model = load_model(given.run)
    network = model.network
    assert isinstance(network, DescriptorNet)
    catalogue = read_catalogue(given.shards).select(given.split)
    rows = np.unique(np.linspace(0, len(catalogue) - 1, given.images).astype(int)).tolist()
    reader = ImageReader(catalogue)
    files = [reader.read_one(row) for row in rows]
    graph = PixelsToDescriptors(network, model.fit, Recipe()).eval()

    def by_products(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.no_grad():
            found: NDArray[np.float32] = graph(torch.tensor(pixels)).numpy()
        return found

    def by_framework(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        image = torch.tensor(pixels).permute(0, 3, 1, 2).float() / 255
        side = min(image.shape[2:])
        top, left = ((length - side) // 2 for length in image.shape[2:])
        image = image[..., top : top + side, left : left + side]
        mode = model.fit.interpolation
        new = F.interpolate(image, size=(model.fit.side,) * 2, mode=mode, antialias=True)
        with torch.no_grad():
            found: NDArray[np.float32] = network(new.clamp(0, 1)).numpy()
        return found

    ways: dict[str, Described] = {"products": by_products, "framework's resizing": by_framework}
    if given.onnx:
        ways["ONNX file"] = OnnxModel(Path(given.onnx))
    print(f"{len(files)} images of {given.split}, {model.fit}")
    print("| way | cosine of pixels: least | mean | of files: least | ms an image |")
    print("|---|---|---|---|---|")
    for name, way in ways.items():
        print(row_of(name, way, model, files))


def row_of(name: str, way: Described, model: TrainedModel, files: list[bytes]) -> str:
    """A line of the table."""
    of_pixels, of_files, seconds = [], [], []
    for file in files:
        pixels = np.asarray(open_image(file))
        begun = time.perf_counter()
        found = way(pixels[None])[0]
        seconds.append(time.perf_counter() - begun)
        of_pixels.append(cosine(found, described(model, stored(Image.fromarray(pixels)))))
        of_files.append(cosine(found, described(model, file)))
    numbers = min(of_pixels), fmean(of_pixels), min(of_files)
    cells = " | ".join(f"{number:.7f}" for number in numbers)
    return f"| {name} | {cells} | {median(seconds) * 1000:.0f} |"


if __name__ == "__main__":
    main()
