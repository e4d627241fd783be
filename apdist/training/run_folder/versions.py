"""The version of the files in a run's folder."""

FORMAT = 2
"""Counts up when a file of a run or a checkpoint changes so that older code cannot read it."""


def refuse_other_format(uri: str, found: object) -> None:
    """Refuse what another version of apdist wrote.

    Raises:
        ValueError: ``found`` is not the format of this version.
    """
    if found == FORMAT:
        return
    newer = isinstance(found, int) and found > FORMAT
    remedy = "use that version, or a newer one" if newer else "use the version that wrote it"
    raise ValueError(
        f"{uri} has format {found!r} of {'a newer' if newer else 'an older'} apdist; this one reads "
        f"format {FORMAT}: {remedy}"
    )
