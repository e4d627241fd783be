"""The ``apdist`` command: one verb per job, each in its own file."""

import importlib
import logging
import os
import sys

from pipelines.stopping import stopped_by_signals

VERBS = {
    "prepare": "write WebDataset shards and their index from your pictures, or draw the glyphs",
    "train": "train a model from a preset, or go on with a run",
    "sweep": "search hyper-parameters with Ray Tune",
    "evaluate": "measure a trained model: mAP, recall@k, R-precision",
    "extract": "write the descriptors of all images to Parquet, on a Ray cluster",
    "index": "build a search index with a trained model",
    "search": "find the images that look like a picture",
    "report": "write report.html of a run",
    "submit": "run any of these as a job on a Ray cluster",
}


def usage() -> str:
    """Help for the command itself."""
    lines = [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: apdist VERB ...        (apdist VERB --help tells more)",
            "",
            "Train image-retrieval embeddings by optimising mean average precision itself.",
            "",
            *lines,
            "",
            "  --version prints the version",
        ]
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0 done, 1 failed, 2 bad input, 130 stopped."""
    argv = sys.argv[1:] if arguments is None else arguments
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
        return _fail(f"unknown verb {argv[0]!r}{hint}", 2)
    return _run(argv[0], argv[1:])


def _run(verb: str, argv: list[str]) -> int:
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    # It tells of every broken answer with a traceback; the storage room tells of those that last.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    try:
        with stopped_by_signals():
            code: int = importlib.import_module(f"pipelines.{verb}").main(argv)
    except (ValueError, OSError) as error:
        if os.environ.get("APDIST_TRACEBACK"):
            raise
        return _fail(_told(error), 2)
    except RuntimeError as error:
        if os.environ.get("APDIST_TRACEBACK") or type(error).__name__ != "TrainingError":
            raise
        return _fail(str(error), 1)
    except KeyboardInterrupt as stop:
        return _fail(str(stop) or "stopped", 130)
    return code


def _told(error: ValueError | OSError) -> str:
    """Its message; an error of the file system itself gets path and remedy."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror.lower()}; check the path and who may write there"
    return str(error)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"apdist: {' '.join(message.split())}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
