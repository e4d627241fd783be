"""How the verbs describe images with a run's model: the options that they share."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from apdist_verbs.terminal.fields import Argument, shown_default

if TYPE_CHECKING:
    from apdist.model.pretrained import TrainedModel
    from apdist.retrieval.recipe import Recipe

SHARED = Argument(name="")
"""Marks a field of `Making`: its options are the verb's own."""


@dataclass(frozen=True, kw_only=True)
class Making:
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

    def recipe(self, run: str, dim: int) -> Recipe:
        """What is done beside the network's own way.

        Args:
            run: URI of the run's folder.
            dim: size of the network's descriptors.

        Raises:
            ValueError: an option is out of range, or there is no such whitening.
        """
        from apdist.model.kept_whitenings import find_whitening
        from apdist.retrieval.recipe import Recipe

        whitening = find_whitening(run, self.whiten, dim) if self.whiten else None
        return Recipe(
            size=self.size,
            scales=self.scales,
            scale_power=self.scale_power,
            whitening=whitening,
        )


PLAIN = Making()
"""As the run measures."""


def noted(making: Making) -> dict[str, Any]:
    """The options as a file beside descriptors keeps them."""
    return dataclasses.asdict(making)


def as_noted(values: Any) -> Making:
    """The options that `noted` wrote.

    Raises:
        ValueError: they are damaged.
    """
    try:
        return Making(**{**values, "scales": tuple(values["scales"])})
    except (TypeError, LookupError) as error:
        raise ValueError(f"how descriptors were made is damaged ({error})") from error


def made(model: TrainedModel, making: Making, run: str) -> TrainedModel:
    """The ``model`` of a ``run`` with its recipe, and an id of its own where it has one.

    Raises:
        ValueError: an option is out of range, or there is no such whitening.
    """
    from apdist.model.descriptor import DescriptorNet

    assert isinstance(model.network, DescriptorNet)
    recipe = making.recipe(run, model.network.dim)
    if recipe.is_plain:
        return model
    facts = json.dumps(recipe.facts(), sort_keys=True).encode()
    return dataclasses.replace(
        model,
        network=recipe.of(model.network),
        fit=recipe.fit(model.fit),
        model_id=f"{model.model_id}-{hashlib.sha256(facts).hexdigest()[:8]}",
    )
