"""Options of low-rank adapters."""

from dataclasses import dataclass

from apdist.config.values import at_least


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters beside the layers of a backbone, which itself stays as it is.

    They are peft's (extra `lora`); the saved model has them merged into plain weights.
    """

    rank: int = 0
    """Inner size of the product; 0: no adapters."""
    alpha: float = 16.0
    """The product counts alpha / rank times."""
    dropout: float = 0.0
    """Dropout before the adapters."""
    targets: tuple[str, ...] = ("backbone.*",)
    """Which layers get one, by pattern of names, "*.query" "*.value"; of what fits the linear
    layers and convolutions, but no grouped ones."""

    def __post_init__(self) -> None:
        at_least("lora.rank", self.rank, 0)
        if not 0 < self.alpha < float("inf"):
            raise ValueError(f"lora.alpha must be positive, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout must lie in [0, 1), got {self.dropout}")
        if not self.targets:
            raise ValueError('lora.targets is empty; name layers, as "backbone.*"')
