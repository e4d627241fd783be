"""Whether a sweep finds what is known to be best, and its command trains that again."""

import html
import re
import shlex
from pathlib import Path

import pytest

from apdist.training.events import Evaluated
from apdist.training.run_folder.runs import open_run, open_sweep
from apdist.training.sweeps.ranking import Objective, standings
from apdist.training.sweeps.records import TrialRecord
from apdist.training.sweeps.state import read_state
from apdist_verbs.prepare.glyphs import PrepareGlyphs, prepare_glyphs
from tests.pipelines.test_cluster import Place
from tests.ray_nodes import environment

SPACE = """
["training.learning_rate"]
distribution = "loguniform"
low = 1e-8
high = 1e2

["training.freeze"]
distribution = "choice"
values = [[], ["backbone.*"]]
"""
"""Of ten decades three learn; a backbone of random weights that stays as it is learns less."""
GOOD = 1e-4, 1e-1
OPTIONS = [
    *("--data.image-size", "32", "--data.group-size", "4", "--data.loader-processes", "0"),
    *("--training.batch-size", "64", "--training.chunk-size", "32", "--training.steps", "32"),
    *("--evaluation.every-steps", "8", "--ray.num-workers", "2", "--max-concurrent", "1"),
]
NUM_TRIALS = 16
pytestmark = [pytest.mark.slow, pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("search")
    glyphs = folder / "glyphs"
    given = {"images_per_glyph": 6, "min_typefaces": 16, "num_test": 60, "image_size": 32}
    prepare_glyphs(PrepareGlyphs(out=str(glyphs), **given))
    (folder / "space.toml").write_text(SPACE)
    return Place(folder, {**environment(folder), "OMP_NUM_THREADS": "1"})


def is_good(record: TrialRecord) -> bool:
    return GOOD[0] <= record.params["training.learning_rate"] <= GOOD[1]


@pytest.mark.parametrize("searcher", ["random", "tpe"])
def test_the_best_of_a_space_is_found_and_trained_again_by_the_command_of_the_page(
    place: Place, searcher: str
) -> None:
    if searcher == "tpe":
        pytest.importorskip("optuna")
    search = ["--space", "space.toml", "--searcher", searcher, "--trials", str(NUM_TRIALS)]
    where = ["--data.shards", "glyphs", "--run.output", "runs", "--run.name", searcher]
    sweeping = ["sweep", "glyphs", *search, *OPTIONS, *where, "--tracking.no-enabled"]
    with place.started(*sweeping) as command:
        out, err = command.process.communicate(timeout=800)
    assert command.process.returncode == 0, f"{out}\n{err}"
    sweep = str(place.folder / "runs" / searcher)
    records = read_state(sweep).records
    found = standings(records, [Objective("map")], open_sweep(sweep).config)
    (best,) = found[0].trials
    print(f"\n{searcher}: {best.params} with mAP {best.figures['map']:.4f}")
    assert best.params["training.freeze"] == []
    assert is_good(best)
    # ASHA: what cannot learn is stopped as soon as there is something to compare it with.
    first = min(record.number for record in records if is_good(record))
    bad = [r for r in records if not is_good(r) and r.number > first]
    assert len(bad) > NUM_TRIALS // 4
    assert {record.state for record in bad} == {"stopped"}
    page = Path(sweep, "sweep.html").read_text()
    told = re.search(r'<code id="command">(.*?)</code>', page, re.DOTALL)
    assert told is not None
    line = html.unescape(re.sub(r"<[^>]+>", "", told[1]))
    words = shlex.split(line)
    assert words[:2] == ["apdist", "train"]
    place.succeed(*words[1:], "--run.name", f"{searcher} again")
    again = open_run(str(place.folder / "runs" / f"{searcher} again"))
    kept = [e for e in again.of_kind(Evaluated) if e.split == "holdout" and e.weights]
    for name in ("map", "recall_at_1"):
        assert kept[-1].figures[name] == best.chosen[name]  # to the last bit
    tested = [e for e in again.of_kind(Evaluated) if e.split == "test"]
    assert tested[-1].figures == best.test
