"""Train on pictures in memory and search them, cell by cell as in a notebook.

    python examples/search_your_pictures.py IMAGES [QUERY]     your own: IMAGES/<class>/<image>
    python examples/search_your_pictures.py                    characters that it draws

A quarter of the classes is never trained on: the search is among those. `apdist train` and
`apdist search` do the same for more pictures than memory holds.
"""

# %% Pictures: one tensor, a label for each, and what a search should tell of it
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from apdist.config import ModelConfig
from apdist.loss import AveragePrecisionLoss
from apdist.model import build_model
from apdist.retrieval import build_index, load_index, save_index, score_labelled
from apdist.training import StepOptions, global_step

SIDE, BATCH_SIZE, STEPS = 24, 128, 16


def draw_characters(root: Path) -> None:
    """root/<character>/<typeface>.png of digits, Latin and Cyrillic letters."""
    import matplotlib

    fonts = sorted(Path(matplotlib.get_data_path(), "fonts", "ttf").glob("DejaVuS*-*.ttf"))
    for character in "0123456789abdefghijkmnqrtuyБГДЖИЛФЦЩЭЮЯ":
        (root / character).mkdir(parents=True)
        for number, font in enumerate(fonts):
            picture = Image.new("L", (SIDE, SIDE), 255 - 9 * number)
            letter = ImageFont.truetype(font, SIDE - 6)
            ImageDraw.Draw(picture).text((SIDE / 2, SIDE / 2), character, 0, letter, anchor="mm")
            picture.save(root / character / f"{font.stem}.png")


def pixels(path: Path) -> Tensor:
    """A picture as (3, SIDE, SIDE) uint8."""
    with Image.open(path) as picture:
        square = picture.convert("RGB").resize((SIDE, SIDE))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)


work = Path(tempfile.mkdtemp(prefix="search-your-pictures-"))
root = Path(sys.argv[1]) if len(sys.argv) > 1 else work / "characters"
if len(sys.argv) == 1:
    draw_characters(root)
paths = sorted(path for path in root.glob("*/*") if path.is_file())
if not paths:
    raise SystemExit(f"no pictures in {root}; expected a folder for each class with pictures in it")
names = sorted({path.parent.name for path in paths})
images = torch.stack([pixels(path) for path in paths])  # (n, 3, SIDE, SIDE)
labels = torch.tensor([names.index(path.parent.name) for path in paths])
unseen = labels % 4 == 3
print(f"{len(paths)} pictures of {len(names)} classes in {root}")

# %% Train: one AP batch a step, in chunks that bound the memory
torch.manual_seed(0)
network = build_model(ModelConfig(backbone="small", dim=32))
optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
# The graphs of all chunks fit: no second forward pass.
options = StepOptions(loss=AveragePrecisionLoss(), chunk_size=40, activations="store")
seen = (~unseen).nonzero().flatten()
for step in range(STEPS):
    rows = seen[torch.randperm(len(seen))[:BATCH_SIZE]]
    optimizer.zero_grad()
    result = global_step(network, images[rows], labels[rows], options, step=step)
    optimizer.step()
    if step % 5 == 0:
        print(f"step {step}: loss {result.loss:.3f}")

# %% Measure: every unseen picture a query against the others
network.eval()
with torch.no_grad():
    descriptors = network(images[unseen])
scores = score_labelled(descriptors, labels[unseen])
print(f"unseen classes: mAP {scores.mean_average_precision:.3f}, R@1 {scores.recall_at[1]:.3f}")

# %% Index the unseen ones, as a folder that another process can load
found_in = [path for path, is_unseen in zip(paths, unseen.tolist(), strict=True) if is_unseen]
entries = pa.table({"path": [str(path.relative_to(root)) for path in found_in]})
save_index(build_index(descriptors, entries, model_id="mine"), work / "index")

# %% Search
index = load_index(work / "index", model_id="mine")
query = Path(sys.argv[2]) if len(sys.argv) > 2 else found_in[0]
with torch.no_grad():
    similarities, nearest = index.search(network(pixels(query)[None]), 6)
print(f"nearest to {query}:")
for similarity, row in zip(similarities[0].tolist(), nearest[0].tolist(), strict=True):
    print(f"  {similarity:.3f}  {entries['path'][row]}")
