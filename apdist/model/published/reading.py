"""Whatever published file: what kind it is, and the model in it."""

from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from apdist.model.published.cirtorch import read_cirtorch
from apdist.model.published.dirtorch import read_dirtorch
from apdist.model.published.pickles import StoredTensor
from apdist.model.published.published import Given, Published, named_tensors
from apdist.model.published.resnets import read_resnet
from apdist.model.published.torch_files import read_checkpoint

_EXPECTED = (
    "expected an AP-GeM checkpoint of dirtorch (model_options, state_dict), one of cirtorch (meta, "
    "state_dict), or a state dict of a ResNet by torchvision's names"
)


def read_published(data: bytes, name: str, given: Given) -> Published:
    """The model in the bytes of a published file.

    Args:
        data: all of the file.
        name: of the file, for messages.
        given: what the file may leave open.

    Raises:
        ValueError: it is no such file, damaged, asks for code, or does not say all that is needed.
    """
    try:
        return _read(data, name, given)
    except ValueError as error:
        if name in str(error):
            raise
        raise ValueError(f"{name}: {error}") from error  # an option that it has is none for us


def _read(data: bytes, name: str, given: Given) -> Published:
    if name.endswith(".safetensors"):
        return read_resnet(name, _safetensors(data, name), given)
    content = read_checkpoint(data, name)
    if not isinstance(content, dict):
        raise ValueError(f"{name} holds a {type(content).__name__}; {_EXPECTED}")
    if "state_dict" in content and "model_options" in content:
        return read_dirtorch(name, content, given)
    if "state_dict" in content and "meta" in content:
        return read_cirtorch(name, content, given)
    if "preprocess" in content and "model_options" not in content:
        raise ValueError(
            f"{name} has preprocess, as checkpoints of dirtorch do, but no model_options, which "
            "say what the network is; get it again"
        )
    state: Any = content.get("state_dict", content)
    if isinstance(state, dict) and any(isinstance(part, StoredTensor) for part in state.values()):
        return read_resnet(name, named_tensors(name, state), given)
    keys = ", ".join(sorted(map(str, content))[:5]) or "nothing"
    raise ValueError(f"{name} holds {keys:.200}; {_EXPECTED}")


def _safetensors(data: bytes, name: str) -> dict[str, Tensor]:
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ValueError(
            f"{name} is no safetensors file, or is cut ({error}); get it again"
        ) from error
