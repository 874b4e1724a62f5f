"""A decoder as of LLaMA and Mistral: RMSNorm, rotary positions, SwiGLU, queries in groups. Nothing but torch in here.

Sizes of Mistral 7B (Jiang et al., arXiv 2310.06825), whose published count of parameters is 7,241,732,096.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYERS, WIDTH, HEADS, GROUPS, HIDDEN, TOKENS = 32, 4096, 32, 8, 14336, 32000
PARAMETERS = 7_241_732_096


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)
        return self.weight * (x * scale).to(x.dtype)


def turned(x: Tensor) -> Tensor:
    """Rotary positions: (N, heads, T, d), pairs (i, i + d/2) turned by angles that grow with the position."""
    half = x.shape[-1] // 2
    rates = 10000 ** (-torch.arange(half, device=x.device) / half)
    angles = torch.outer(torch.arange(x.shape[-2], device=x.device), rates)
    angles = torch.cat([angles, angles], -1)
    return x * angles.cos() + torch.cat([-x[..., half:], x[..., :half]], -1) * angles.sin()


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.q, self.o = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k, self.v = (nn.Linear(width, width // heads * groups, bias=False) for _ in range(2))
        self.heads, self.groups = heads, groups

    def forward(self, x: Tensor) -> Tensor:
        n, t, width = x.shape
        q = self.q(x).view(n, t, self.heads, -1).transpose(1, 2)
        k, v = (layer(x).view(n, t, self.groups, -1).transpose(1, 2) for layer in (self.k, self.v))
        with torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False):  # as transformers does
            q, k = turned(q), turned(k)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o(x.transpose(1, 2).reshape(n, t, width))


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, groups: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm = RMSNorm(width), RMSNorm(width)
        self.attention, self.mlp = Attention(width, heads, groups), SwiGLU(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.mlp(self.mlp_norm(x))


class Llama(nn.Module):
    """(N, T) token numbers -> (N, T, tokens)."""

    def __init__(
        self,
        layers: int = LAYERS,
        width: int = WIDTH,
        heads: int = HEADS,
        groups: int = GROUPS,
        hidden: int = HIDDEN,
        tokens: int = TOKENS,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.layers = nn.ModuleList(Block(width, heads, groups, hidden) for _ in range(layers))
        self.norm, self.head = RMSNorm(width), nn.Linear(width, tokens, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def macs(
    steps: int,
    layers: int = LAYERS,
    width: int = WIDTH,
    heads: int = HEADS,
    groups: int = GROUPS,
    hidden: int = HIDDEN,
    tokens: int = TOKENS,
) -> int:
    """Of one sample: linear layers, and attention's two products over all pairs of positions."""
    own = width // heads
    linear = 2 * width * width + 2 * width * own * groups + 3 * width * hidden
    return steps * (layers * linear + width * tokens) + layers * 2 * heads * steps * steps * own


def small() -> Llama:
    return Llama(**SMALL)


SMALL = {"layers": 2, "width": 16, "heads": 4, "groups": 2, "hidden": 24, "tokens": 11}
