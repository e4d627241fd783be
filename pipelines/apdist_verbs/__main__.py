"""The ``apdist`` command: one verb per job, each in its own file."""

import importlib
import sys

from apdist_verbs.terminal.ending import end_with, exit_code_of, fail
from apdist_verbs.terminal.overview import two_columns

VERBS = {
    "demo": "all of it once, on characters drawn for it: a few minutes on a laptop",
    "prepare": "write WebDataset shards and their catalogue from your pictures, or draw the glyphs",
    "convert": "make a published model a run: AP-GeM, cirtorch, torchvision's ResNets",
    "train": "train a model from a preset, or go on with a run",
    "sweep": "search hyper-parameters with Ray Tune",
    "evaluate": "measure a trained model: mAP, recall@k, R-precision",
    "whiten": "learn a whitening of a run's descriptors, kept in the run by name",
    "extract": "write the descriptors of all images to Parquet, on a Ray cluster",
    "export": "write a model as ONNX, torch.export, a folder for the hub or for MLflow",
    "index": "build a search index with a trained model",
    "search": "find the images that look like a picture",
    "serve": "search by picture in a browser, and an API in JSON",
    "report": "write report.html of a run",
    "audit": "find duplicates, leaks, wrong labels and outliers in shards",
    "runs": "list runs: state, step, mAP, age, what to do next",
    "track": "send MLflow what it lacks of a run",
    "doctor": "what this machine, its cluster and its stores lack, and what to do",
    "submit": "run any of these as a job on a Ray cluster",
    "jobs": "list the jobs of a cluster",
    "logs": "follow the log of a job",
    "stop": "stop a job, after a last checkpoint",
}
ROOMS = dict.fromkeys(["submit", "jobs", "logs", "stop"], "jobs")
"""The verbs whose file lies in a room."""


UNANSWERED_S = 4.0
"""See `RetryPolicy`; a person waits for it."""


def module_of(verb: str) -> str:
    """Where a verb is."""
    return ".".join(["apdist_verbs", *([ROOMS[verb]] if verb in ROOMS else []), verb])


def usage() -> str:
    """Help for the command itself."""
    return "\n".join(
        [
            "usage: apdist VERB ...        (apdist VERB --help tells more)",
            "",
            "Train image-retrieval embeddings by optimising mean average precision itself.",
            "",
            two_columns(VERBS, 10),
            "",
            "  --version prints the version",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0 done, 1 failed, 2 bad input, 130 stopped."""
    argv = sys.argv[1:] if arguments is None else arguments
    return exit_code_of(lambda: _run(argv))


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage() + "\n")
        return 0
    if argv[0] == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"apdist {version('apdist')}\n")
        return 0
    if argv[0] not in VERBS:
        from apdist.config import suggestion

        hint = suggestion(argv[0], list(VERBS)) or f"; expected one of {', '.join(VERBS)}"
        return fail(f"unknown verb {argv[0]!r}{hint}", 2)

    if (encoding := sys.getfilesystemencoding()) != "utf-8":
        # Arrow and others take paths as UTF-8 whatever the locale says: they would find no file.
        return fail(
            f"names of files are read as {encoding} in this locale, and apdist needs UTF-8; set "
            "PYTHONUTF8=1, or a locale such as C.UTF-8",
            2,
        )
    from apdist.data import storage

    before = storage.configure(storage.RetryPolicy(unanswered_s=UNANSWERED_S))
    try:
        code: int = importlib.import_module(module_of(argv[0])).main(argv[1:])
    finally:
        storage.configure(before)
    return code


def command() -> None:
    """The `apdist` of a shell."""
    end_with(main)


if __name__ == "__main__":
    command()
