"""Options on a command line that its loss does not have."""

from apdist.config import LossConfig

_NAMED = "--loss."


def refuse_useless(argv: list[str], *losses: LossConfig) -> None:
    """Refuse an option of a loss in ``argv`` that none of ``losses`` has.

    A preset may set the bins of the listwise loss and another loss be chosen. Who types them for
    another loss expects them to do something.

    Raises:
        ValueError: says which options it has.
    """
    for word in argv:
        if word.startswith(_NAMED):
            name = word.partition("=")[0].removeprefix(_NAMED).replace("-", "_")
            if any(loss.has(name) or getattr(loss, name) == "auto" for loss in losses):
                continue
            losses[0].refuse_without(name)
