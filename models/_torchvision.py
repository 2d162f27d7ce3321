"""Any classification network of torchvision, under the name `torchvision:NAME`."""

import functools
import re
from collections.abc import Callable
from typing import Any

import torchvision
from torch import Tensor, nn

from bench.api import Recipe, Shape, UnknownName, network

# Not checked against half and double: fine-tuning from published weights is the common use.
_RECIPE = Recipe(lr=0.01, batch_size=64, epochs=5, full_epochs=30, precision="bf16")
_DEFAULT_SIDE = 224
_WITH_AUXILIARY = ("googlenet", "inception_v3")


def builder(name: str) -> Callable[[int, Shape], nn.Module]:
    """Return `build(num_classes, in_shape)` for a network of torchvision.

    Raises:
        UnknownName: torchvision has no such classification network.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UnknownName("network of torchvision", name, known)
    build = functools.partial(_build, name)
    weights = functools.partial(weights_of, name)
    return network(recipe=_RECIPE, input_size=_side(name), weights=weights)(build)


def weights_of(name: str, choice: str) -> tuple[str, Callable[[], dict[str, Tensor]]]:
    """Return the full name of published weights, and a function that downloads or finds them.

    Args:
        choice: `DEFAULT` or a name such as `IMAGENET1K_V1`.

    Raises:
        UnknownName: there are no such weights for this network.
    """
    published = torchvision.models.get_model_weights(name)
    if choice not in published.__members__:
        known = [*published.__members__, "DEFAULT", "or a file FILE.safetensors"]
        raise UnknownName(f"weights of {name}", choice, known)
    chosen = published[choice]

    def load() -> dict[str, Tensor]:
        state: dict[str, Tensor] = chosen.get_state_dict(
            progress=False, check_hash=True, weights_only=True
        )
        auxiliary = ("aux1.", "aux2.", "AuxLogits.")  # heads that only training uses
        # Published densenets have the names of an older release: norm.1 is norm1 now.
        return {
            re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", k): v
            for k, v in state.items()
            if not k.startswith(auxiliary)
        }

    return chosen.name, load


def _build(name: str, num_classes: int, in_shape: Shape) -> nn.Module:
    # With auxiliary heads a network in training returns several outputs.
    more: dict[str, bool] = {}
    if name in _WITH_AUXILIARY:  # their weights were trained on pixels of another normalisation
        more = {"aux_logits": False, "init_weights": True, "transform_input": in_shape[0] == 3}
    built: nn.Module = torchvision.models.get_model(
        name, weights=None, num_classes=num_classes, **more
    )
    if in_shape[0] != 3:
        _read_channels(built, in_shape[0])
    return built


def _read_channels(model: nn.Module, channels: int) -> None:
    """Give the first convolution as many input channels as the images have."""
    name, first = next((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, own = name.rpartition(".")
    like: dict[str, Any] = {
        key: getattr(first, key) for key in ("kernel_size", "stride", "padding")
    }
    replacement = nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **like)
    setattr(model.get_submodule(parent), own, replacement)


def _side(name: str) -> int:
    """Return the height and width that the published weights were evaluated at."""
    published = torchvision.models.get_model_weights(name)
    if "DEFAULT" not in published.__members__:
        return _DEFAULT_SIDE
    crop = published.DEFAULT.transforms.keywords.get("crop_size", _DEFAULT_SIDE)
    return int(crop)
