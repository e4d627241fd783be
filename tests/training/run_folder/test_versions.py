"""The version of the files of a run."""

import pytest

from apdist.training.run_folder.versions import FORMAT, refuse_other_format


def test_what_this_version_wrote_is_read() -> None:
    refuse_other_format("runs/a", FORMAT)


@pytest.mark.parametrize(
    ("found", "told"),
    [(FORMAT + 1, "a newer"), (FORMAT - 1, "an older"), (None, "an older"), ("9", "an older")],
)
def test_what_another_version_wrote_is_refused_with_its_age(found: object, told: str) -> None:
    with pytest.raises(ValueError, match=f"^runs/a has format {found!r} of {told} apdist"):
        refuse_other_format("runs/a", found)
