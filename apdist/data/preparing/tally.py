"""What was passed over or changed on the way to the shards: by kind, how often and where first."""

from dataclasses import dataclass, field


@dataclass
class Tally:
    """Kinds of things that a person should know of, each with a number and the first name."""

    kinds: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, kind: str, name: str, number: int = 1) -> None:
        """Count ``number`` more of a kind, of which ``name`` is the first one."""
        before, first = self.kinds.get(kind, (0, name))
        self.kinds[kind] = (before + number, first)

    def update(self, other: "Tally", where: str = "") -> None:
        """Count what ``other`` has counted, at the place that names begin with."""
        for kind, (number, first) in other.kinds.items():
            self.add(kind, where + first, number)

    def number(self, kind: str) -> int:
        """How many of a kind."""
        return self.kinds.get(kind, (0, ""))[0]
