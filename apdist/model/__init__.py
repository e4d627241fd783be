"""Images to descriptors."""

from typing import TYPE_CHECKING

from apdist._face import lazily

if TYPE_CHECKING:
    from apdist.model.descriptor import DescriptorNet as DescriptorNet
    from apdist.model.pretrained import TrainedModel as TrainedModel
    from apdist.model.pretrained import build_model as build_model
    from apdist.model.pretrained import load_model as load_model

_HOMES = {
    **dict.fromkeys(["DescriptorNet"], "apdist.model.descriptor"),
    **dict.fromkeys(["TrainedModel", "build_model", "load_model"], "apdist.model.pretrained"),
}
__all__ = ["DescriptorNet", "TrainedModel", "build_model", "load_model"]

__getattr__ = lazily(__name__, _HOMES)
