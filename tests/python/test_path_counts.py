"""Exact path counts: published architectures, and every joint against the model itself with weights of one.

The reference is a forward pass of the model in float64 with every weight 1, every bias 0, activations left out, and
each pool a literal loop. Counts below 2^53 are integers there and here, and both means are one division: 1e-12.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from netassay import algebra
from netassay.sources.passes.counts import count_paths
from netassay.sources.traced.graph import trace
from python import architectures

IMAGE = (1, 3, 224, 224)


def counts(model: nn.Module, *inputs: Tensor, **options: Any) -> dict[int, float]:
    return count_paths(trace(model, inputs, function="test"), **options)


def output_counts(model: nn.Module, *inputs: Tensor) -> list[float | None]:
    """Mean count of each output, not its logarithm."""
    traced = trace(model, inputs, function="test")
    found = count_paths(traced)
    return [2.0 ** found[place] if place in found else None for place in traced.graph.outputs]


# ---- the reference ----


class WindowSum(nn.Module):
    """Each output of a pool as the sum over its window, position by position."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def spans(self, size: int, outputs: int) -> list[list[int]]:
        pool = self.pool
        if "Adaptive" in type(pool).__name__:
            return [list(range(k * size // outputs, math.ceil((k + 1) * size / outputs))) for k in range(outputs)]
        step, padding = pool.stride, pool.padding
        dilation = getattr(pool, "dilation", 1)
        starts = [k * step - padding for k in range(outputs)]
        return [[i for i in range(s, s + pool.kernel_size * dilation, dilation) if 0 <= i < size] for s in starts]

    def forward(self, x: Tensor) -> Tensor:
        out = self.pool(x)
        h, w = out.shape[-2:]
        result = torch.zeros_like(out)
        for i, rows in enumerate(self.spans(x.shape[-2], h)):
            for j, columns in enumerate(self.spans(x.shape[-1], w)):
                result[..., i, j] = x[..., rows, :][..., columns].sum((-2, -1))
        return result


class RowSum(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return x.sum(self.dim, keepdim=True).expand_as(x)


POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
UNITS = (nn.ReLU, nn.Sigmoid, nn.GELU, nn.Tanh, nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm, nn.Dropout, nn.ReLU6)


def reference(model: nn.Module, *inputs: Tensor) -> list[float]:
    model = copy.deepcopy(model).double().eval()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, POOLS) and not isinstance(module, WindowSum):
                setattr(module, name, WindowSum(child))
            elif isinstance(child, nn.Softmax):
                setattr(module, name, RowSum(child.dim))
            elif isinstance(child, UNITS):
                setattr(module, name, nn.Identity())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(0 if name.endswith("bias") else 1)
        outputs = model(*(torch.ones_like(x, dtype=torch.float64) for x in inputs))
    return [float(out.mean()) for out in (outputs if isinstance(outputs, tuple) else (outputs,))]


def matches(model: nn.Module, *inputs: Tensor) -> None:
    assert output_counts(model, *inputs) == pytest.approx(reference(model, *inputs), rel=1e-12)


# ---- known answers ----


@pytest.mark.parametrize(
    ("make", "bits", "shape"),
    [
        (architectures.lenet5, 37.82, (1, 1, 32, 32)),
        (architectures.alexnet, 99.20, IMAGE),
        (architectures.vgg16, 185.97, IMAGE),
        (architectures.googlenet, 210.45, IMAGE),
        (architectures.resnet18, 191.65, IMAGE),
        (architectures.resnet50, 466.71, IMAGE),
        (architectures.densenet121, 927.85, IMAGE),
        (architectures.mobilenet_v2, 315.87, IMAGE),
    ],
)
def test_counts_of_published_architectures(make: Callable[[], nn.Module], bits: float, shape: tuple[int, ...]) -> None:
    traced = trace(architectures.on_meta(make), torch.zeros(shape, device="meta"), function="test")
    found = count_paths(traced)
    assert len(found) == len(traced.graph)
    assert found[len(traced.graph) - 1] == pytest.approx(bits, abs=0.005)


def test_counts_exceed_float64() -> None:
    model = architectures.on_meta(lambda: nn.Sequential(*[nn.Linear(2**20, 2**20) for _ in range(75)]))
    traced = trace(model, torch.zeros(1, 2**20), function="test")
    assert count_paths(traced)[traced.graph.outputs[0]] == 1500


# ---- against the model with weights of one ----


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"kernel_size": 3}, 9),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, 9),
        ({"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 2}, 7),
        ({"kernel_size": (1, 4), "padding": (0, 3), "stride": (1, 3), "groups": 4}, 10),
        ({"kernel_size": 4, "padding": "same"}, 8),
        ({"kernel_size": (2, 3), "padding": "same", "dilation": (3, 1)}, 8),
        ({"kernel_size": 3, "padding": "valid"}, 8),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, 6),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "reflect"}, 6),
    ],
)
def test_convolutions(options: dict[str, Any], size: int) -> None:
    matches(nn.Sequential(nn.Conv2d(4, 8, **options), nn.ReLU(), nn.Conv2d(8, 3, 3, 1, 1)), torch.zeros(1, 4, size, 11))


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
        {"kernel_size": 2, "stride": 3},
        {"kernel_size": 3, "stride": 2, "dilation": 2, "groups": 2, "padding": 2},
        {"kernel_size": 1, "stride": 3, "output_padding": 2},
    ],
)
def test_transposed_convolutions(options: dict[str, Any]) -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ConvTranspose2d(4, 6, **options), nn.ReLU(), nn.Conv2d(6, 1, 3))
    matches(model, torch.zeros(1, 2, 7, 8))


def test_convolutions_along_one_and_three_axes_and_without_a_batch() -> None:
    matches(nn.Sequential(nn.Conv1d(2, 4, 5, 2, 3), nn.ConvTranspose1d(4, 2, 4, 2, 1)), torch.zeros(1, 2, 17))
    matches(nn.Sequential(nn.Conv3d(2, 4, (1, 2, 3), 2, 1), nn.ConvTranspose3d(4, 2, 3, 2)), torch.zeros(1, 2, 5, 6, 7))

    class Unbatched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(4, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.conv(x[0]), self.conv(x[1])]) if len(x) == 2 else self.conv(x)

    traced = trace(Unbatched(), torch.zeros(1, 4, 8), function="test")
    assert 2 ** count_paths(traced)[traced.graph.outputs[0]] == pytest.approx(4 * (6 * 3 + 2 * 2) / 8)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.MaxPool2d(2, 3, 1, dilation=2, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        nn.AdaptiveAvgPool2d((3, 5)),
        nn.AdaptiveMaxPool2d((4, 1)),
        nn.AdaptiveAvgPool2d((13, 17)),
    ],
)
@pytest.mark.parametrize("size", [(8, 8), (9, 11)])
def test_pools_are_sums_over_what_is_in_the_window(pool: nn.Module, size: tuple[int, int]) -> None:
    matches(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), pool, nn.ReLU()), torch.zeros(1, 1, *size))


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (architectures.Residual, (6,)),
        (architectures.Dense, (6,)),
        (architectures.Branches, (3, 8, 8)),
        (architectures.Depthwise, (4, 8, 8)),
        (architectures.SharedModules, (6,)),
        (architectures.TwoOutputs, (6,)),
    ],
)
def test_joints(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    class Linear(nn.Module):
        """Functions of torch that the reference cannot replace by module are the identity on sums that are >= 0."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = make()

        def forward(self, x: Tensor) -> Any:
            return self.inner(x)

    matches(Linear(), torch.zeros(1, *shape))


def test_two_inputs_are_both_sources() -> None:
    matches(architectures.TwoInputs(), torch.zeros(1, 6), torch.zeros(1, 4))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.gate = nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Sigmoid()
        self.squeeze, self.excite = nn.Conv2d(4, 2, 1), nn.Conv2d(2, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.gate(self.excite(self.squeeze(self.pool(x))))


class Attention(nn.Module):
    """Two heads, with scores in full or without."""

    def __init__(self, fused: bool, causal: bool = False) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(5, 8), nn.LayerNorm(8)
        self.heads = nn.ModuleList(nn.Linear(8, width) for width in (6, 6, 4))
        self.softmax, self.out = nn.Softmax(-1), nn.Linear(4, 3)
        self.fused, self.causal = fused, causal

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        q, k, v = (head(x).unflatten(-1, (2, -1)).transpose(1, 2) for head in self.heads)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            mixed = self.softmax(q @ k.transpose(-2, -1)) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


def test_products_multiply_counts() -> None:
    matches(SqueezeExcite(), torch.zeros(1, 3, 6, 6))
    matches(Attention(fused=False), torch.zeros(1, 7, 5))


@pytest.mark.parametrize("causal", [False, True])
def test_fused_attention_counts_as_its_parts(causal: bool) -> None:
    x = torch.zeros(1, 7, 5)
    assert output_counts(Attention(True, causal), x) == pytest.approx(reference(Attention(False), x), rel=1e-12)


def test_grouped_queries_share_keys_and_values() -> None:
    class Grouped(nn.Module):
        def __init__(self, fused: bool) -> None:
            super().__init__()
            self.fused, self.key = fused, nn.Linear(3, 3)

        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            k = self.key(k) * torch.ones(2, 1, 1)
            if self.fused:
                return F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
            k = k.repeat_interleave(2, dim=-3)
            return torch.softmax(q @ k.mT, -1) @ k

    inputs = torch.zeros(1, 4, 5, 3), torch.zeros(1, 2, 6, 3)
    assert output_counts(Grouped(True), *inputs) == output_counts(Grouped(False), *inputs) != [None]


def of(function: Callable[..., Any]) -> nn.Module:
    class Function(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)
            self.weight = nn.Parameter(torch.randn(4, 4))
            self.register_buffer("places", torch.tensor([2, 0, 2]))

        def forward(self, x: Tensor) -> Any:
            return function(self, x, self.inner(x))

    return Function()


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda m, x, y: x + y, 5),
        (lambda m, x, y: y * m.weight[0] + m.weight[1], 4),  # a constant is 1 in a product and 0 in a sum
        (lambda m, x, y: torch.cat([y, m.weight], 0), 4 * 2 / 6),
        (lambda m, x, y: y @ m.weight, 16),
        (lambda m, x, y: m.weight @ y.mT, 16),
        (lambda m, x, y: y @ m.weight[0], 16),
        (lambda m, x, y: y @ y.mT, 64),
        (lambda m, x, y: torch.einsum("bi,bj->bij", x, y), 4),
        (lambda m, x, y: torch.einsum("bi,ij->bj", y, m.weight), 16),
        (lambda m, x, y: torch.addmm(m.weight[0], y, m.weight), 16),
        (lambda m, x, y: torch.addmm(y, y, m.weight), 20),
        (lambda m, x, y: torch.addcmul(x, y, y), 17),
        (lambda m, x, y: F.bilinear(x, y, m.weight[None]), 4 * 16),
        (lambda m, x, y: F.glu(y, -1), 16),
        (lambda m, x, y: F.linear(x, y), 16),  # weights that paths reach
        (lambda m, x, y: y.mean(1), 16),
        (lambda m, x, y: y.amax((0, 1)), 32),
        (lambda m, x, y: y.max(1).values, 16),
        (lambda m, x, y: torch.maximum(x, y), 5),
        (lambda m, x, y: torch.softmax(y, 1), 16),
        (lambda m, x, y: y.cumsum(1), 10),
        (lambda m, x, y: y[:, m.places], 4),
        (lambda m, x, y: torch.cat([x, y], 1)[:, torch.tensor([0, 4, 5])], 3),
        (lambda m, x, y: F.pad(y, (1, 3), value=5.0), 2),
        (lambda m, x, y: y.index_copy(1, m.places[:2], x[:, :2]), 2.5),
        (lambda m, x, y: y.index_put((torch.arange(2),), x[:2]), 1),
        (lambda m, x, y: y.index_add(1, m.places, x[:, :3]), 4.75),
        (lambda m, x, y: torch.scatter(x, 1, m.places[None].expand(2, 3), y[:, :3]), 2.5),
        (lambda m, x, y: y.index_fill(1, m.places[:2], 7.0), 2),
        (lambda m, x, y: x.slice_scatter(y[:, :1], 1, 3, 4), 1.75),
        (lambda m, x, y: torch.tensordot(y, m.weight, ([1], [0])), 16),
        (lambda m, x, y: torch.tensordot(y, y, ([0], [0])), 32),
        (lambda m, x, y: torch.cat([y, m.weight], 0) * torch.cat([m.weight, y], 0), 16 / 6),  # beside constants
        (lambda m, x, y: torch.cat([y, m.weight], 0) @ y.mT, (2 * 64 + 4 * 16) / 6),
        (lambda m, x, y: torch.where(x > 0, y, -math.inf), 4),
        (lambda m, x, y: y.masked_fill(x > 0, 0), 4),
        (lambda m, x, y: torch.stack(y.split([1, 3], 1)[0].unbind(0)), 4),
        (lambda m, x, y: F.layer_norm(y.double(), (4,)).half(), 4),
        (lambda m, x, y: F.interpolate(y[None], 8), 4),
        (lambda m, x, y: F.interpolate(y[None], 8, mode="linear"), 4 * (2 * 6 + 2) / 8),
        (lambda m, x, y: F.interpolate(y[None], 7, mode="linear", align_corners=True), 4 * (4 + 3 * 2) / 7),
        (lambda m, x, y: F.interpolate(y[None, None], scale_factor=(1, 2), mode="bilinear"), 4 * (2 * 6 + 2) / 8),
    ],
)
def test_operations(function: Callable[..., Any], expected: float) -> None:
    assert output_counts(of(function), torch.zeros(1, 4)) == pytest.approx([expected], rel=1e-12)


def test_embeddings_are_sources() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.places, self.out = nn.Embedding(9, 6), nn.Embedding(5, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.tokens(x) + self.places(torch.arange(5)))

    assert output_counts(Embedded(), torch.zeros(1, 5, dtype=torch.int64)) == [6]


# ---- writes ----


def test_writes_in_place_reach_every_view() -> None:
    def function(m: Any, x: Tensor, y: Tensor) -> Any:
        whole = torch.zeros_like(x)
        whole[:, 1:3] = y[:, :2]  # 0 4 4 0
        early = y[:, 1]
        y[:, :2] += x[:, 2:]  # 5 5 4 4
        y.relu_()
        y[:, 3] = 0  # 5 5 4 0
        return whole, early, y, y.flatten()[0]

    assert output_counts(of(function), torch.zeros(1, 4)) == pytest.approx([2, 5, 3.5, 5], rel=1e-12)


def test_a_write_to_a_transposed_view_lands_where_it_should() -> None:
    def function(m: Any, x: Tensor, y: Tensor) -> Any:
        z = (y + 0).T
        z[1] += x[:, 0]
        return z.T[:, 1], z[0]

    assert output_counts(of(function), torch.zeros(1, 4)) == pytest.approx([5, 4], rel=1e-12)


# ---- what is left out ----


def test_what_depends_on_values_is_left_out_with_all_behind_it() -> None:
    def function(m: Any, x: Tensor, y: Tensor) -> Any:
        return y.sort(1).values, m.inner(y.topk(2, 1).values.repeat(1, 2)), y[:, y.argmax(1)], x + 1

    assert output_counts(of(function), torch.zeros(1, 4)) == [None, None, None, 1]


def test_recurrence_is_left_out_and_the_rest_goes_on() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.skip = nn.GRU(4, 3, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            out, _ = self.rnn(x)
            skip = self.skip(x)
            return out + skip, skip

    assert output_counts(Recurrent(), torch.zeros(1, 5, 4)) == [None, 4]


def test_constants_have_no_count() -> None:
    def function(m: Any, x: Tensor, y: Tensor) -> Any:
        return m.weight + 1, F.pad(y, (2, 0))[:, :2]

    assert output_counts(of(function), torch.zeros(1, 4)) == [None, None]


def test_memory_bounds_the_sums_alive() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Flatten(0), nn.Unflatten(0, (-1, 8)), nn.Linear(8, 2))
    x = torch.zeros(1, 100, 8)
    assert len(counts(model, x)) == 5
    assert set(counts(model, x, memory=2 * 100 * 8 * 8 - 1)) == {0}
    wide = nn.Sequential(nn.Linear(8, 4000), nn.ReLU(), nn.Linear(4000, 2))
    assert set(counts(wide, x, memory=100_000)) == {0}


def test_weights_are_not_read() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    x = torch.zeros(1, 3, 8, 8)
    expected = counts(model, x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)
    assert counts(model, x) == expected
    assert counts(model.bfloat16(), x.bfloat16()) == expected
    assert counts(copy.deepcopy(model).to("meta"), x.bfloat16()) == expected


def test_another_rule_of_the_users_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    from netassay.algebra import semantics

    monkeypatch.setattr(semantics, "_RULES", dict(semantics._RULES))
    algebra.register("softmax", algebra.Leaf("unit"))
    assert output_counts(of(lambda m, x, y: torch.softmax(y, 1)), torch.zeros(1, 4)) == [4]
    algebra.register("relu", algebra.Leaf("unknown"))
    assert output_counts(of(lambda m, x, y: (torch.relu(y), y)), torch.zeros(1, 4)) == [None, 4]


def test_a_token_that_is_a_constant_has_the_paths_of_what_it_attends_to() -> None:
    """As a class token has: no path reaches its query, which counts as 1 in the scores."""

    def attended(m: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        tokens = torch.cat([m.weight[:1].expand(1, 4), y], 0)[None]
        return F.scaled_dot_product_attention(tokens, tokens, tokens)

    rows = {"token": 2 * 4 * 4, "other": 2 * 4 * 4 * 4 + 4 * 4}  # sums over the scores with the token and two others
    values = 2 * 4
    expected = sum(row * values + row for row in (rows["token"], rows["other"], rows["other"])) / 3
    assert output_counts(of(attended), torch.zeros(1, 4)) == pytest.approx([expected], rel=1e-12)
