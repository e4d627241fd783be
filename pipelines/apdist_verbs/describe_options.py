"""How the verbs describe images with a run's model: the options that they share.

Shapes: q queries, n database images, d descriptor size.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from apdist_verbs.terminal.bounds import at_least
from apdist_verbs.terminal.console import warn
from apdist_verbs.terminal.fields import Argument, shown_default

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from apdist.arrays import Array
    from apdist.model.pretrained import TrainedModel
    from apdist.retrieval.recipe import Recipe

CONTENTS = "_contents.json"
"""Says of which model and images the tables beside it are; readers of Parquet pass over it."""
SHARED = Argument(name="")
"""Marks a field of `DescribeOptions`: its options are the verb's own."""


@dataclass(frozen=True, kw_only=True)
class DescribeOptions:
    """How images are described: as the run measures, unless told otherwise."""

    size: Annotated[int, shown_default("as the run measures")] = 0
    """Longer side of an image in pixels, its shape kept."""
    scales: tuple[float, ...] = (1.0,)
    """Describe each image at these multiples of its size, and pool: 1 0.7071 1.4142."""
    scale_power: float = 1.0
    """Exponent of the power mean over scales; 1 is the mean, published models also take 3, or the
    exponent of their GeM."""
    whiten: Annotated[str, shown_default("none")] = ""
    """Whitening of the descriptors: the name of one that the run has, or a file of `apdist whiten`
    (.safetensors)."""
    dim: Annotated[int, shown_default("all")] = 0
    """Numbers of each descriptor that are kept, the first ones, of unit length again: for models
    that were trained with `loss.matryoshka`."""

    def recipe(self, run: str, dim: int) -> Recipe:
        """What is done beside the network's own way.

        Args:
            run: URI of the run's folder.
            dim: size of the network's descriptors.

        Raises:
            ValueError: an option is out of range, or there is no such whitening.
        """
        from apdist.retrieval.recipe import recipe_of

        return recipe_of(options_to_json(self), run, dim)


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """Descriptors averaged with those of their nearest images, before anything is ranked."""

    query_expansion: Annotated[int, shown_default("none")] = 0
    """Nearest images that each query is averaged with."""
    database_augmentation: Annotated[int, shown_default("none")] = 0
    """Nearest other images that each image of the database is averaged with, first of all."""
    expansion_alpha: float = 0.0
    """They weigh as their similarity to this power; 0: all alike, as much as the query itself."""

    def __post_init__(self) -> None:
        at_least(
            0,
            query_expansion=self.query_expansion,
            database_augmentation=self.database_augmentation,
        )
        if not 0 <= self.expansion_alpha < float("inf"):
            raise ValueError(f"--expansion-alpha must be at least 0, got {self.expansion_alpha:g}")
        if self.expansion_alpha and not self.is_any:
            raise ValueError(
                f"--expansion-alpha {self.expansion_alpha:g} weighs neighbours, and there are none"
                "; give --query-expansion or --database-augmentation, or leave it out"
            )

    @property
    def is_any(self) -> bool:
        """Whether anything is averaged."""
        return bool(self.query_expansion or self.database_augmentation)

    def refuse_too_many(self, num_images: int, num_more: int = 0, *, has_own: bool = False) -> None:
        """Refuse more neighbours than there are images.

        Args:
            num_images: of the database.
            num_more: distractors.
            has_own: whether a query's own picture is among the images, and no neighbour.

        Raises:
            ValueError: they cannot.
        """
        if self.database_augmentation and num_more:
            raise ValueError(
                "--database-augmentation would need the neighbours of every distractor; leave it "
                "or --distractors out"
            )
        for option, wanted, there in (
            ("query-expansion", self.query_expansion, num_images + num_more - has_own),
            ("database-augmentation", self.database_augmentation, num_images - 1),
        ):
            if wanted > there:
                raise ValueError(
                    f"--{option} {wanted} is more than the {there} images that there are; give at "
                    "most that"
                )

    def applied(
        self,
        queries: Tensor,
        database: Tensor,
        more: Callable[[], Iterable[Array]] | None = None,
        own: Sequence[int] = (),
    ) -> tuple[Tensor, Tensor]:
        """Queries (q, d) and database (n, d), moved towards their neighbours.

        Args:
            queries: of unit length.
            database: likewise.
            more: distractors, part by part, that queries may have as neighbours.
            own: (q,) row of the database with each query's own picture, which is no neighbour, or
                -1; empty: there is none.

        Raises:
            ValueError: there are fewer neighbours than are wanted.
        """
        from apdist.retrieval.expansion import augment_database, expand_queries

        alpha = self.expansion_alpha
        if self.database_augmentation:
            database = augment_database(database, k=self.database_augmentation, alpha=alpha)
        if self.query_expansion:
            queries = expand_queries(
                queries.to(database.device),
                database,
                k=self.query_expansion,
                alpha=alpha,
                more=more() if more else (),
                own=own,
            )
        return queries, database


PLAIN, NOT_AVERAGED = DescribeOptions(), Expansion()
"""Described as the run measures; not averaged with neighbours."""


def options_to_json(describing: DescribeOptions) -> dict[str, Any]:
    """The options as JSON, by name: "describing" in files of descriptors and in indexes."""
    return dataclasses.asdict(describing)


def options_to_words(describing: DescribeOptions) -> list[str]:
    """The options as words of a command line; none where the run measures in the same way."""
    words: list[str] = []
    for name, value in options_to_json(describing).items():
        if value != options_to_json(PLAIN)[name]:
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *(str(v).removesuffix(".0") for v in values)]
    return words


def options_from_json(values: Any) -> DescribeOptions:
    """The options that `options_to_json` wrote.

    Raises:
        ValueError: they are damaged.
    """
    try:
        return DescribeOptions(**{**values, "scales": tuple(values["scales"])})
    except (TypeError, LookupError) as error:
        raise ValueError(f"how descriptors were made is damaged ({error})") from error


def with_recipe(model: TrainedModel, describing: DescribeOptions, run: str) -> TrainedModel:
    """The ``model`` of a ``run`` with its recipe, and an id of its own where it has one.

    Raises:
        ValueError: an option is out of range, there is no such whitening, or it was learned with
            another model.
    """
    from apdist.model.descriptor import DescriptorNet
    from apdist.retrieval.recipe import prepared

    assert isinstance(model.network, DescriptorNet)
    return prepared(model, describing.recipe(run, model.network.dim))


def warn_if_learned_otherwise(model: TrainedModel, whole: TrainedModel) -> None:
    """Warn of a whitening of images that were described in another way than these are.

    Args:
        model: the run's own.
        whole: what `with_recipe` has made of it.
    """
    recipe = getattr(whole.network, "recipe", None)
    if recipe is not None and (how := recipe.learned_otherwise(model.fit)):
        warn(
            f"the whitening {recipe.whitening.learned_on!r} was learned with {how}; it suits "
            "descriptors that are made in the same way best"
        )
