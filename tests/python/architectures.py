"""Published architectures as torchvision defines them, from their descriptions, and small models of every joint.

Structure only: parameters are drawn as torch draws them. `on_meta` builds without memory. Sources: Krizhevsky,
arXiv 1404.5997 (AlexNet); Simonyan and Zisserman, 1409.1556 (VGG); Szegedy et al., 1409.4842 (GoogLeNet); He et al.,
1512.03385 (ResNet); Huang et al., 1608.06993 (DenseNet); Sandler et al., 1801.04381 (MobileNetV2); LeCun et al. 1998.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def on_meta(make: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """The model in eval mode, with shapes and no numbers."""
    with torch.device("meta"):
        return make(*args, **kwargs).eval()


def lenet5(activation: Callable[[], nn.Module] = nn.Tanh) -> nn.Sequential:
    """(N, 1, 32, 32) -> (N, 10). C3 sees all six maps, and C5 is a linear layer on its 16 x 5 x 5."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), activation(), nn.AvgPool2d(2)),
        *(nn.Conv2d(6, 16, 5), activation(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(400, 120), activation(), nn.Linear(120, 84), activation(), nn.Linear(84, 10)),
    )


class Classifier(nn.Module):
    """Features, an average pool, and linear layers on what is flattened."""

    def __init__(self, features: nn.Module, side: int, *layers: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def alexnet() -> Classifier:
    """The one-column AlexNet."""

    def conv(inputs: int, outputs: int, kernel: int, padding: int, stride: int = 1) -> tuple[nn.Module, ...]:
        return nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True)

    features = nn.Sequential(
        *(*conv(3, 64, 11, 2, 4), nn.MaxPool2d(3, 2), *conv(64, 192, 5, 2), nn.MaxPool2d(3, 2)),
        *(*conv(192, 384, 3, 1), *conv(384, 256, 3, 1), *conv(256, 256, 3, 1), nn.MaxPool2d(3, 2)),
    )
    first = (nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(inplace=True))
    return Classifier(features, 6, *first, nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(inplace=True), head(4096))


def head(inputs: int) -> nn.Linear:
    return nn.Linear(inputs, 1000)


def vgg16() -> Classifier:
    """Configuration D, without BatchNorm."""
    layers: list[nn.Module] = []
    inputs = 3
    for outputs, convolutions in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
        layers.append(nn.MaxPool2d(2, 2))
    first = (nn.Linear(25088, 4096), nn.ReLU(True), nn.Dropout())
    return Classifier(nn.Sequential(*layers), 7, *first, nn.Linear(4096, 4096), nn.ReLU(True), nn.Dropout(), head(4096))


def conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1, act: type[nn.Module] | None = nn.ReLU
) -> nn.Sequential:
    """Convolution without bias, BatchNorm and an activation; odd kernels keep the size at stride 1."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers: dict[str, nn.Module] = {"conv": conv, "norm": nn.BatchNorm2d(outputs)}
    return nn.Sequential(OrderedDict(layers if act is None else {**layers, "act": act(inplace=True)}))


class Inception(nn.Module):
    """Four branches side by side. The third has a 3 x 3 convolution where the paper has 5 x 5, as in torchvision."""

    def __init__(self, inputs: int, ones: int, threes: tuple[int, int], fives: tuple[int, int], pooled: int) -> None:
        super().__init__()
        self.branch1 = conv_norm(inputs, ones, 1)
        self.branch2 = nn.Sequential(conv_norm(inputs, threes[0], 1), conv_norm(*threes, 3))
        self.branch3 = nn.Sequential(conv_norm(inputs, fives[0], 1), conv_norm(*fives, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, 1, ceil_mode=True), conv_norm(inputs, pooled, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


def googlenet() -> Classifier:
    """Without auxiliary heads and without the transform of the input."""

    def pool(kernel: int = 3) -> nn.MaxPool2d:
        return nn.MaxPool2d(kernel, 2, ceil_mode=True)

    features = nn.Sequential(
        *(conv_norm(3, 64, 7, 2), pool(), conv_norm(64, 64, 1), conv_norm(64, 192, 3), pool()),
        Inception(192, 64, (96, 128), (16, 32), 32),
        Inception(256, 128, (128, 192), (32, 96), 64),
        pool(),
        Inception(480, 192, (96, 208), (16, 48), 64),
        Inception(512, 160, (112, 224), (24, 64), 64),
        Inception(512, 128, (128, 256), (24, 64), 64),
        Inception(512, 112, (144, 288), (32, 64), 64),
        Inception(528, 256, (160, 320), (32, 128), 128),
        pool(2),
        Inception(832, 256, (160, 320), (32, 128), 128),
        Inception(832, 384, (192, 384), (48, 128), 128),
    )
    return Classifier(features, 1, nn.Dropout(0.2), head(1024))


class Block(nn.Module):
    """relu(body(x) + x), with a strided 1 x 1 convolution on x where the shapes differ."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:  # the stride is on the 3 x 3: version 1.5
            middle = conv_norm(width, width, 3, stride)
            self.body = nn.Sequential(conv_norm(inputs, width, 1), middle, conv_norm(width, outputs, 1, act=None))
        else:
            self.body = nn.Sequential(conv_norm(inputs, width, 3, stride), conv_norm(width, outputs, 3, act=None))
        same = stride == 1 and inputs == outputs
        self.downsample = None if same else conv_norm(inputs, outputs, 1, stride, act=None)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.body(x)
        out += identity
        return self.relu(out)


def resnet(blocks: tuple[int, int, int, int], bottleneck: bool) -> Classifier:
    """A ResNet with so many blocks in each of its four stages."""
    layers = [conv_norm(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate(blocks):
        width = 64 << stage
        for i in range(count):
            layers.append(Block(inputs, width, 2 if stage and i == 0 else 1, bottleneck))
            inputs = 4 * width if bottleneck else width
    return Classifier(nn.Sequential(*layers), 1, head(inputs))


def resnet18() -> Classifier:
    return resnet((2, 2, 2, 2), bottleneck=False)


def resnet50() -> Classifier:
    return resnet((3, 4, 6, 3), bottleneck=True)


def norm_conv(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """BatchNorm and ReLU before the convolution."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(norm=nn.BatchNorm2d(inputs), act=nn.ReLU(inplace=True), conv=conv))


class DenseBlock(nn.Module):
    """Each layer takes the concatenation of the input and of all layers before it, and adds `growth` channels."""

    def __init__(self, inputs: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(norm_conv(inputs + i * growth, 4 * growth, 1), norm_conv(4 * growth, growth, 3))
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


def densenet121() -> Classifier:
    """Blocks of 6, 12, 24 and 16 layers, growth 32; a transition halves channels and sides."""
    layers: list[nn.Module] = [conv_norm(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for count in (6, 12, 24, 16):
        layers.append(DenseBlock(channels, count, 32))
        channels += 32 * count
        if count != 16:
            layers += [norm_conv(channels, channels // 2, 1), nn.AvgPool2d(2, 2)]
            channels //= 2
    return Classifier(nn.Sequential(*layers, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)), 1, head(channels))


class InvertedResidual(nn.Module):
    """Expand, depthwise, project; x is added where the shapes are the same."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [] if expansion == 1 else [conv_norm(inputs, hidden, 1, act=nn.ReLU6)]
        depthwise = conv_norm(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6)
        self.body = nn.Sequential(*expand, depthwise, conv_norm(hidden, outputs, 1, act=None))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


#: Expansion, channels, blocks, stride of the first.
MOBILE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet_v2() -> Classifier:
    """Width 1."""
    layers: list[nn.Module] = [conv_norm(3, 32, 3, 2, act=nn.ReLU6)]
    inputs = 32
    for expansion, outputs, count, stride in MOBILE:
        for i in range(count):
            layers.append(InvertedResidual(inputs, outputs, stride if i == 0 else 1, expansion))
            inputs = outputs
    return Classifier(nn.Sequential(*layers, conv_norm(320, 1280, 1, act=nn.ReLU6)), 1, nn.Dropout(0.2), head(1280))


# ---- small models, each with one joint ----


class Residual(nn.Module):
    """n blocks of one linear layer and ReLU, each added to its input: 2^n layer paths; (N, d) -> (N, d)."""

    def __init__(self, width: int = 6, blocks: int = 3) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


class Dense(nn.Module):
    """n linear layers, each of everything before it: 2^n layer paths; (N, d) -> (N, d + 4 n)."""

    def __init__(self, width: int = 6, layers: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width + 4 * i, 4) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, torch.relu(layer(x))], 1)
        return x


class Branches(nn.Module):
    """Three branches of different kernels, concatenated; (N, 3, 8, 8) -> (N, 10, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.three = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.pool, self.five = nn.MaxPool2d(3, 1, 1), nn.Conv2d(3, 4, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(x), torch.relu(self.three(x)), self.five(self.pool(x))], dim=1)


class Depthwise(nn.Module):
    """A depthwise and a pointwise convolution, then ReLU6; (N, 4, 8, 8) -> (N, 8, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4)
        self.pointwise, self.act = nn.Conv2d(4, 8, 1), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.pointwise(self.depthwise(x)))


class SqueezeExcite(nn.Module):
    """A convolution whose channels are scaled by a gate that sees all of it; (N, 3, 8, 8) -> (N, 8, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1)
        self.squeeze, self.excite = nn.Conv2d(8, 2, 1), nn.Conv2d(2, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.excite(torch.relu(self.squeeze(self.pool(x)))))


class SharedModules(nn.Module):
    """One linear layer called twice and one ReLU three times; (N, 6) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        for _ in range(2):
            x = self.relu(self.shared(x))
        return self.last(x)


class TwoInputs(nn.Module):
    """A layer for each of two inputs, joined by a sum and a layer; (N, 6), (N, 4) -> (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(6, 5), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.out(torch.relu(self.left(x) + self.right(y)))


class TwoOutputs(nn.Module):
    """One body, two heads; (N, 6) -> (N, 3), (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.label, self.score = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.body(x))
        return self.label(x), self.score(x)


class DataDependent(nn.Module):
    """Which layer runs depends on the numbers; (N, 6) -> (N, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.positive, self.negative = nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.positive(x) if x.sum() > 0 else self.negative(x)
