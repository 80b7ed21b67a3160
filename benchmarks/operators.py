"""The convolutions and matrix products that benchmarks/kernels.py sweeps, as networks have them.

Read off the networks' ONNX files; SE blocks (1x1 images) and the classifiers included.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Conv:
    """[1, channels, size, size] by [filters, channels / groups, kernel, kernel], zero padding.

    The padding is half of the kernel; `count` is how often the network has it.
    """

    channels: int
    size: int
    filters: int
    kernel: int
    stride: int = 1
    groups: int = 1
    count: int = 1

    @property
    def out(self) -> int:
        """Height and width of the result."""
        return (self.size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1

    @property
    def flops(self) -> int:
        """Operations of the direct algorithm: a multiply-add is two."""
        terms = self.channels // self.groups * self.kernel**2
        return 2 * terms * self.filters * self.out**2

    @property
    def bytes(self) -> int:
        """Bytes that must be moved: input, weights, bias and result once each."""
        weights = self.channels // self.groups * self.kernel**2 * self.filters
        images = self.channels * self.size**2 + self.filters * self.out**2
        return 4 * (images + weights + self.filters)

    def __str__(self) -> str:
        kind = f"{self.kernel}x{self.kernel}" + (f" /{self.stride}" if self.stride > 1 else "")
        groups = f" in {self.groups} groups" if self.groups > 1 else ""
        return f"{self.channels}x{self.size}x{self.size} -> {self.filters}, {kind}{groups}"


@dataclass(frozen=True)
class Gemm:
    """[m, k] by [k, n], the second known at compile time; with `open`, m is not."""

    m: int
    k: int
    n: int
    count: int = 1
    open: bool = False

    @property
    def flops(self) -> int:
        """Operations: a multiply-add is two."""
        return 2 * self.m * self.k * self.n

    @property
    def bytes(self) -> int:
        """Bytes that must be moved: both factors, bias and result once each."""
        return 4 * (self.m * self.k + self.k * self.n + self.n + self.m * self.n)

    def __str__(self) -> str:
        kind = ", m open" if self.open else ""
        return f"{self.m}x{self.k} by {self.k}x{self.n}{kind}"


Operator = Conv | Gemm

# Sizes that no tile divides, each beside the nearest that tiles do divide.
TAILS: tuple[tuple[Operator, Operator], ...] = (
    (Gemm(127, 768, 768), Gemm(128, 768, 768)),
    (Gemm(197, 769, 761), Gemm(192, 768, 768)),
    (Gemm(49, 512, 509), Gemm(48, 512, 512)),
    (Gemm(13, 768, 768), Gemm(12, 768, 768)),
    (Gemm(127, 768, 768, open=True), Gemm(128, 768, 768)),
    (Gemm(197, 761, 769, open=True), Gemm(192, 768, 768)),
    (Gemm(13, 768, 768, open=True), Gemm(12, 768, 768)),
    (Conv(128, 27, 128, 3), Conv(128, 28, 128, 3)),
    (Conv(256, 13, 256, 1), Conv(256, 12, 256, 1)),
    (Conv(127, 14, 131, 1), Conv(128, 12, 128, 1)),
    (Conv(512, 7, 512, 3), Conv(512, 8, 512, 3)),
    (Conv(256, 7, 251, 1), Conv(256, 6, 256, 1)),
    (Conv(251, 14, 251, 3, stride=2), Conv(256, 16, 256, 3, stride=2)),
    (Conv(97, 29, 97, 3, groups=97), Conv(96, 28, 96, 3, groups=96)),
    (Conv(331, 7, 331, 5, groups=331), Conv(336, 7, 336, 5, groups=336)),
)

NETWORKS: dict[str, tuple[Operator, ...]] = {
    "resnet50": (
        Conv(3, 224, 64, 7, stride=2),
        Conv(64, 56, 64, 1),
        Conv(64, 56, 64, 3, count=3),
        Conv(64, 56, 256, 1, count=4),
        Conv(256, 56, 64, 1, count=2),
        Conv(256, 56, 128, 1),
        Conv(128, 56, 128, 3, stride=2),
        Conv(128, 28, 512, 1, count=4),
        Conv(256, 56, 512, 1, stride=2),
        Conv(512, 28, 128, 1, count=3),
        Conv(128, 28, 128, 3, count=3),
        Conv(512, 28, 256, 1),
        Conv(256, 28, 256, 3, stride=2),
        Conv(256, 14, 1024, 1, count=6),
        Conv(512, 28, 1024, 1, stride=2),
        Conv(1024, 14, 256, 1, count=5),
        Conv(256, 14, 256, 3, count=5),
        Conv(1024, 14, 512, 1),
        Conv(512, 14, 512, 3, stride=2),
        Conv(512, 7, 2048, 1, count=3),
        Conv(1024, 14, 2048, 1, stride=2),
        Conv(2048, 7, 512, 1, count=2),
        Conv(512, 7, 512, 3, count=2),
        Gemm(1, 2048, 1000),
    ),
    "mobilenetv2_100": (
        Conv(3, 224, 32, 3, stride=2),
        Conv(32, 112, 32, 3, groups=32),
        Conv(32, 112, 16, 1),
        Conv(16, 112, 96, 1),
        Conv(96, 112, 96, 3, stride=2, groups=96),
        Conv(96, 56, 24, 1),
        Conv(24, 56, 144, 1, count=2),
        Conv(144, 56, 144, 3, groups=144),
        Conv(144, 56, 24, 1),
        Conv(144, 56, 144, 3, stride=2, groups=144),
        Conv(144, 28, 32, 1),
        Conv(32, 28, 192, 1, count=3),
        Conv(192, 28, 192, 3, groups=192, count=2),
        Conv(192, 28, 32, 1, count=2),
        Conv(192, 28, 192, 3, stride=2, groups=192),
        Conv(192, 14, 64, 1),
        Conv(64, 14, 384, 1, count=4),
        Conv(384, 14, 384, 3, groups=384, count=4),
        Conv(384, 14, 64, 1, count=3),
        Conv(384, 14, 96, 1),
        Conv(96, 14, 576, 1, count=3),
        Conv(576, 14, 576, 3, groups=576, count=2),
        Conv(576, 14, 96, 1, count=2),
        Conv(576, 14, 576, 3, stride=2, groups=576),
        Conv(576, 7, 160, 1),
        Conv(160, 7, 960, 1, count=3),
        Conv(960, 7, 960, 3, groups=960, count=3),
        Conv(960, 7, 160, 1, count=2),
        Conv(960, 7, 320, 1),
        Conv(320, 7, 1280, 1),
        Gemm(1, 1280, 1000),
    ),
    "efficientnet_b0": (
        Conv(3, 224, 32, 3, stride=2),
        Conv(32, 112, 32, 3, groups=32),
        Conv(32, 1, 8, 1),
        Conv(8, 1, 32, 1),
        Conv(32, 112, 16, 1),
        Conv(16, 112, 96, 1),
        Conv(96, 112, 96, 3, stride=2, groups=96),
        Conv(96, 1, 4, 1),
        Conv(4, 1, 96, 1),
        Conv(96, 56, 24, 1),
        Conv(24, 56, 144, 1, count=2),
        Conv(144, 56, 144, 3, groups=144),
        Conv(144, 1, 6, 1, count=2),
        Conv(6, 1, 144, 1, count=2),
        Conv(144, 56, 24, 1),
        Conv(144, 56, 144, 5, stride=2, groups=144),
        Conv(144, 28, 40, 1),
        Conv(40, 28, 240, 1, count=2),
        Conv(240, 28, 240, 5, groups=240),
        Conv(240, 1, 10, 1, count=2),
        Conv(10, 1, 240, 1, count=2),
        Conv(240, 28, 40, 1),
        Conv(240, 28, 240, 3, stride=2, groups=240),
        Conv(240, 14, 80, 1),
        Conv(80, 14, 480, 1, count=3),
        Conv(480, 14, 480, 3, groups=480, count=2),
        Conv(480, 1, 20, 1, count=3),
        Conv(20, 1, 480, 1, count=3),
        Conv(480, 14, 80, 1, count=2),
        Conv(480, 14, 480, 5, groups=480),
        Conv(480, 14, 112, 1),
        Conv(112, 14, 672, 1, count=3),
        Conv(672, 14, 672, 5, groups=672, count=2),
        Conv(672, 1, 28, 1, count=3),
        Conv(28, 1, 672, 1, count=3),
        Conv(672, 14, 112, 1, count=2),
        Conv(672, 14, 672, 5, stride=2, groups=672),
        Conv(672, 7, 192, 1),
        Conv(192, 7, 1152, 1, count=4),
        Conv(1152, 7, 1152, 5, groups=1152, count=3),
        Conv(1152, 1, 48, 1, count=4),
        Conv(48, 1, 1152, 1, count=4),
        Conv(1152, 7, 192, 1, count=3),
        Conv(1152, 7, 1152, 3, groups=1152),
        Conv(1152, 7, 320, 1),
        Conv(320, 7, 1280, 1),
        Gemm(1, 1280, 1000),
    ),
    "bert_base": (
        Gemm(128, 768, 768, count=48),
        Gemm(128, 768, 3072, count=12),
        Gemm(128, 3072, 768, count=12),
        Gemm(1, 768, 768),
    ),
    "vit_base": (
        Gemm(197, 768, 2304, count=12),
        Gemm(197, 768, 768, count=12),
        Gemm(197, 768, 3072, count=12),
        Gemm(197, 3072, 768, count=12),
        Gemm(1, 768, 1000),
    ),
    "whisper_tiny": (
        Gemm(1500, 384, 384, count=24),
        Gemm(1500, 384, 1536, count=4),
        Gemm(1500, 1536, 384, count=4),
        Gemm(32, 384, 384, count=24),
        Gemm(32, 384, 1536, count=4),
        Gemm(32, 1536, 384, count=4),
        Gemm(32, 384, 51864),
    ),
    "tails": tuple(dict.fromkeys(operator for pair in TAILS for operator in pair)),
}
