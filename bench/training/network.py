"""The defaults that a function in `models/` states of the network it builds."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from bench.data.images import Shape
from bench.training.recipe import Recipe

Build = Callable[[int, Shape], nn.Module]
# From a choice, such as DEFAULT, to the full name of published weights and a function that loads them.
PublishedWeights = Callable[[str], tuple[str, Callable[[], dict[str, Tensor]]]]


@dataclass(frozen=True)
class About:
    """A network's defaults.

    Attributes:
        recipe: of one training under the common protocol.
        input_size: height and width it needs; None: it takes the data set's own.
        weights: finds its published weights; None: there are none.
    """

    recipe: Recipe = Recipe()
    input_size: int | None = None
    weights: PublishedWeights | None = None


def network(
    *, recipe: Recipe, input_size: int | None = None, weights: PublishedWeights | None = None
) -> Callable[[Build], Build]:
    """Mark `build(num_classes, in_shape)` as a network and state its defaults."""

    def mark(build: Build) -> Build:
        build.about = About(recipe, input_size, weights)  # type: ignore[attr-defined]
        return build

    return mark


def about(build: Build) -> About:
    """Return a network's defaults; an unmarked function gets the general ones."""
    found = getattr(build, "about", None)
    return found if isinstance(found, About) else About()
