"""What MLflow costs a training: steps and CPU time with it over without, and seconds at the end.

Trainings in this process alternate, with tracking and without, on characters drawn for it. With
tracking a thread watches the machine, another sends to MLflow. Times of steps are medians within a
training, the ratios are of pairs; the end is from the last event to the return of the command.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from apdist.config import Config, override
from apdist.training.events import StepDone
from apdist_verbs.prepare.glyphs import PrepareGlyphs, prepare_glyphs
from apdist_verbs.presets import preset
from apdist_verbs.start.running import new_run, train_run

WARM_UP = 5
"""Steps that are not counted: the loss is compiled, caches are filled."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--shards", default="", help="those of `apdist prepare glyphs`")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        shards = given.shards or str(Path(folder, "glyphs"))
        if not given.shards:
            prepare_glyphs(PrepareGlyphs(out=shards))
        options = {
            "data.shards": shards,
            "data.eval_split": "",
            "data.holdout_share": 0.0,
            "training.steps": given.steps,
            "training.batch_size": given.batch_size,
            "ray.num_workers": 0,
            "run.output": str(Path(folder, "runs")),
            "tracking.uri": f"sqlite:///{folder}/mlflow.db",
        }
        config = override(preset("glyphs"), options)
        trained(config, is_tracked=True)  # imports, and makes the database
        orders = ([(False, True), (True, False)] * given.pairs)[: given.pairs]
        pairs = [{way: trained(config, way) for way in order} for order in orders]
    steps = [pair[True][0] / pair[False][0] for pair in pairs]
    work = [pair[True][2] / pair[False][2] for pair in pairs]
    ends = [(pair[True][1], pair[False][1]) for pair in pairs]
    print(f"time of a step, with over without: {spread(steps)}")
    print(f"CPU time of a training, with over without: {spread(work)}")
    print(f"seconds at the end, with: {spread([end for end, _ in ends])}")
    print(f"CPU time of a training, with over without: {spread(work)}")
    print(f"seconds at the end, without: {spread([end for _, end in ends])}")


def trained(config: Config, is_tracked: bool) -> tuple[float, float, float]:
    """Median seconds of a step, seconds from the last event to the end, CPU seconds of it all."""
    run = new_run(override(config, {"tracking.enabled": is_tracked}), "benchmark")
    began = time.process_time()
    train_run(run)
    ended, used = time.time(), time.process_time() - began
    seconds = [event.figures["seconds"] for event in run.of_kind(StepDone)][WARM_UP:]
    return statistics.median(seconds), ended - run.history[-1].time_ms / 1000, used


def spread(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
