"""Two networks of our own in plain torch: a recurrent one and a U-Net.

The order in which the layers are made is the order in which their weights are drawn.
"""

from __future__ import annotations

import torch
from torch import nn

from tools.zoo.places import Zoo
from tools.zoo.recipe import Recipe, Recipes
from tools.zoo.seeded_weights import seed_convnet

MELS = 40
UNET_WIDTHS = (24, 48, 96, 192)
UNET_IMAGE = (1, 3, 256, 256)


class _BidirectionalLstm(nn.Module):
    """Mel frames to log probabilities: a convolution, two bidirectional LSTM layers, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(MELS, 96, 3, padding=1)
        self.lstm = nn.LSTM(96, 128, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * 128, 40)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.convolution(mels)).transpose(1, 2)
        # Times 4: fresh weights give a nearly flat distribution, which would hide errors.
        return torch.log_softmax(self.head(self.lstm(hidden)[0]) * 4, -1)


def _double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class _UNet(nn.Module):
    """Image to mask: three halvings, three doublings, a skip connection at each size."""

    def __init__(self) -> None:
        super().__init__()
        widths = UNET_WIDTHS
        upwards = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.down = nn.ModuleList(
            _double_convolution(inputs, outputs)
            for inputs, outputs in zip((3, *widths), widths, strict=False)
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, wide, 2, 2) for deep, wide in upwards)
        self.merge = nn.ModuleList(_double_convolution(2 * wide, wide) for _, wide in upwards)
        self.head = nn.Conv2d(widths[0], 2, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = self.down[0](image)
        skips = []
        for down in self.down[1:]:
            skips.append(hidden)
            hidden = down(self.pool(hidden))
        for up, merge in zip(self.up, self.merge, strict=True):
            hidden = merge(torch.cat((up(hidden), skips.pop()), 1))
        return torch.sigmoid(self.head(hidden))


def _lstm(_: Zoo) -> Recipe:
    return Recipe(
        _BidirectionalLstm().eval(),
        {"feats": torch.randn(1, MELS, 100)},
        ("log_probs",),
        opset=17,
        exporter="torchscript",
    )


def _unet(_: Zoo) -> Recipe:
    module = seed_convnet(_UNet(), UNET_IMAGE)
    return Recipe(module, {"image": torch.randn(UNET_IMAGE)}, ("mask",))


RECIPES: Recipes = {
    "lstm_bi2_asr": _lstm,
    "unet_convtranspose_256": _unet,
}
