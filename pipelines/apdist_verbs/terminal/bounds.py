"""Refusals of numbers that are too small, by the names that a person types."""


def at_least(least: int, **options: float) -> None:
    """Raise unless each of the ``options`` is ``least`` or more.

    Raises:
        ValueError: the first that is not.
    """
    for name, value in options.items():
        if not value >= least:
            flag = f"--{name.replace('_', '-')}"
            raise ValueError(f"{flag} must be at least {least}, got {value:g}")
