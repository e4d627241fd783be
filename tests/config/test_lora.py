"""What the options of adapters refuse."""

import pytest

from apdist.config import Config, override


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora.rank": -1}, "lora.rank must be at least 0, got -1"),
        ({"lora.alpha": 0.0}, "lora.alpha must be positive, got 0.0"),
        ({"lora.dropout": 1.0}, r"lora.dropout must lie in \[0, 1\), got 1.0"),
        ({"lora.targets": []}, "lora.targets is empty"),
    ],
)
def test_a_bad_option_is_refused_with_its_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        override(Config(), change)
