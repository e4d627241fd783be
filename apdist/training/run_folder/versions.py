"""The version of the files in a run's folder."""

FORMAT = 4
"""Counts up when a file of a run or a checkpoint changes so that older code cannot read it."""


def refuse_other_format(uri: str, found: object) -> None:
    """Refuse what another version of apdist wrote.

    Raises:
        ValueError: ``found`` is not the format of this version.
    """
    if found == FORMAT:
        return
    age = "a newer" if isinstance(found, int) and found > FORMAT else "an older"
    raise ValueError(
        f"{uri} has format {found!r} of {age} apdist; this one reads format {FORMAT}: use the "
        "version that wrote it"
    )
