"""Small networks of every kind that a recall has to run through."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Build a network from a seed, in float64 and evaluation mode, with running statistics that do something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_()  # pyright: ignore[reportOptionalMemberAccess]
                module.running_var.uniform_(0.5, 2)  # pyright: ignore[reportOptionalMemberAccess]
    return model.double().eval()


def images(b: int = 3, c: int = 3, size: int = 16, seed: int = 1) -> Tensor:
    """Draw images."""
    return torch.randn(b, c, size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain() -> nn.Module:
    """Convolutions, overlapping pools, dense layers: the network of the reference in small."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(72, 20), nn.ReLU(), nn.Linear(20, 10),
    )  # fmt: skip


class Residual(nn.Module):
    """ReLU in place, shared and functional; a residual; batch norm; padding, dilation and ceil mode in pools."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.norm, self.relu = nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, padding=1, dilation=2, ceil_mode=True)
        self.head = nn.Linear(8 * 9, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.first(x))
        y = x + F.relu(self.norm(self.second(x)))
        y = self.relu(y - 0.2)
        y = torch.relu_(self.pool(y) - 0.1).clamp(min=0.05)
        y, _ = F.max_pool2d(y, 2, 2, return_indices=True)
        return self.head(F.adaptive_max_pool2d(y, 3).flatten(1))


class Patches(nn.Module):
    """A vision transformer on torch's own layers."""

    def __init__(self, activation: str = "relu", norm_first: bool = False, sequence_first: bool = False) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 16, 4, 4)
        batch_first = not sequence_first
        layer = nn.TransformerEncoderLayer(
            16, 2, 32, activation=activation, norm_first=norm_first, batch_first=batch_first
        )
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head, self.batch_first = nn.Linear(16, 10), batch_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = self.encoder(x if self.batch_first else x.transpose(0, 1))
        return self.head(x.mean(1 if self.batch_first else 0))


class Fused(nn.Module):
    """Attention through the fused kernel, with fewer keys than queries; RMS norm by hand; maximum over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.q, self.kv = nn.Conv2d(3, 16, 4, 4), nn.Linear(16, 16), nn.Linear(16, 16)
        self.out, self.head, self.norm = nn.Linear(16, 16), nn.Linear(16, 10), nn.RMSNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        q = self.q(self.norm(x)).unflatten(-1, (4, 4)).transpose(1, 2)
        k, v = self.kv(x).unflatten(-1, (2, 2, 4)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.head(x.amax(1)) + self.head(x.max(1).values)


class Smooth(nn.Module):
    """Every other activation function, and group, layer and instance norm."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.ModuleList([nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1) for i in range(4)])
        self.norms = nn.ModuleList([nn.GroupNorm(2, 8), nn.InstanceNorm2d(8, affine=True), nn.BatchNorm2d(8)])
        self.prelu, self.dense = nn.PReLU(8), nn.Linear(8 * 16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.leaky_relu(self.norms[0](self.maps[0](x)), 0.2), 0.5, self.training)
        x = F.hardtanh(F.elu(self.norms[1](self.maps[1](x))), -0.5, 0.9) + F.relu6(x) + F.softplus(x)
        x = torch.tanh(self.prelu(self.norms[2](self.maps[2](x)))) + torch.sigmoid(x) + F.selu(x) + F.hardsigmoid(x)
        x = F.gelu(x) + F.silu(x) + F.mish(x) + F.hardswish(x) + F.gelu(x, approximate="tanh") + F.celu(x, 0.7)
        x = F.avg_pool2d(self.maps[3](x), 2)
        return self.dense(F.layer_norm(F.adaptive_avg_pool2d(x, 4), (4, 4)).flatten(1))


class OneAndThree(nn.Module):
    """Pools over one and three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.head = nn.Conv1d(3, 4, 3), nn.Linear(4 * 9, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool1d(F.relu(self.line(x.flatten(2))), 3, 3, padding=1)
        y = y[..., :64].reshape(len(x), 4, 4, 4, 4)
        y = F.adaptive_max_pool1d(F.max_pool3d(y, 2, 1).flatten(2), 9)
        return self.head(y.flatten(1))


ZOO: dict[str, Callable[[], Any]] = {
    "plain": plain,
    "residual": Residual,
    "encoder": Patches,
    "encoder, gelu, norm first": lambda: Patches("gelu", norm_first=True),
    "encoder, tokens first": lambda: Patches(sequence_first=True),
    "fused attention": Fused,
    "smooth": Smooth,
    "one and three axes": OneAndThree,
}
