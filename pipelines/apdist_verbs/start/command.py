"""A command that will run elsewhere: here is refused what it would refuse there a minute later."""

import importlib

from apdist.addresses import without_secrets
from apdist.config import Config, suggestion
from apdist_verbs import sweep
from apdist_verbs.presets import preset
from apdist_verbs.start import start
from apdist_verbs.terminal.options import check, parse


def check_command(command: list[str]) -> None:
    """Refuse what ``command``, a verb and its options, would refuse before it looks at anything.

    What a run or a file of options holds is known where it runs: with those, only names and kinds
    are checked.

    Raises:
        ValueError: the verb is none of apdist's, or an option is unknown, missing or wrong.
    """
    from apdist_verbs.__main__ import ROOMS, VERBS

    verb, *argv = command
    for word in command:
        if (seen := without_secrets(word)) != word:
            raise ValueError(
                f"{seen} has a signature or a password, and all who see the cluster's dashboard "
                "see the command of a job; put the address into a file of options: --config FILE, "
                "in the folder --working-dir"
            )
    known = [name for name in VERBS if name not in ROOMS]
    if verb not in known:
        hint = suggestion(verb, known) or f"; expected one of {', '.join(known)}"
        raise ValueError(f"unknown verb {verb!r} after --{hint}")
    module = importlib.import_module(f"apdist_verbs.{verb}")
    if verb in ("prepare", "index"):
        module.read_options(argv)
    elif verb not in ("train", "sweep"):
        parse(module.Options, argv, f"apdist {verb}")
    elif argv:  # else it shows its usage
        _check_start(verb, argv)


def _check_start(verb: str, argv: list[str]) -> None:
    if argv[0] == "--resume" and verb == "sweep":
        _, options = sweep.sweep_and_options(argv[1:])
        check(sweep.Limits, options, "apdist sweep --resume SWEEP")
    elif argv[0] == "--resume":
        _, options = start.run_and_options(argv[1:])
        check(Config, options, "apdist train --resume RUN")
    elif start.file_in(argv):
        start.refuse_resuming(argv, verb)
        if not argv[0].startswith("-"):
            preset(argv[0])
            argv = argv[1:]
        check(start.Options if verb == "train" else sweep.Options, argv, f"apdist {verb}")
    elif verb == "train":
        start.read_start(argv)
    else:
        sweep.read_options(argv)
