"""``apdist train PRESET`` or ``apdist train --resume RUN``."""

import sys

from apdist_verbs.presets import preset_help
from apdist_verbs.resume import resume
from apdist_verbs.start.checks import check_new_run
from apdist_verbs.start.completing import with_absolute_paths, with_own_side
from apdist_verbs.start.model_check import check_model
from apdist_verbs.start.pictures import with_images
from apdist_verbs.start.running import discarded_if_refused, new_run, told_next, train_run
from apdist_verbs.start.start import read_start


def usage() -> str:
    """Help before the options."""
    return (
        "usage: apdist train PRESET [IMAGES] [OPTIONS]\n"
        "                                 train anew, on IMAGES/<class>/<image> or on\n"
        "                                 shards that are prepared (--data.shards)\n"
        "       apdist train --config FILE [IMAGES] [OPTIONS]\n"
        "                                 train anew with the options of a run's\n"
        "                                 config.json, or the same in TOML\n"
        "       apdist train --resume RUN [OPTIONS]\n"
        "                                 go on from the run's last checkpoint\n"
        "       apdist train --resume RUN --fork [OPTIONS]\n"
        "                                 begin another run at that checkpoint\n\n"
        f"presets:\n{preset_help()}\n\n"
        "apdist train PRESET --help shows what people change, --help-all the rest\n"
    )


def main(argv: list[str]) -> int:
    """Parse and run."""
    if not argv or argv[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if argv[0] == "--resume":
        return resume(argv[1:])
    name, options = read_start(argv)
    config = with_own_side(with_absolute_paths(options.config))
    check_new_run(config)
    # The network before pictures are prepared, which may take hours.
    config = with_images(options, config, lambda: check_model(config))
    run = new_run(config, name)
    with discarded_if_refused(run):
        return told_next(run, train_run(run))
