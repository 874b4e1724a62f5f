"""Sites: every call of a nonlinearity in a pass is seen once, by its name, before it runs, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function

from netassay.sources.live import sites
from netassay.sources.live.sites import Site
from python.models import ConvNet, Encoder, Mlp, Recurrent, Wrap, data, seeded, tokens


class Seen:
    """A listener that keeps what it is shown."""

    def __init__(self) -> None:
        self.sites: list[Site] = []
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.refusals: dict[str, str] = {}
        self.faults: list[tuple[str, Exception]] = []

    def entering(self, site: Site, tensor: Tensor) -> None:
        self.sites.append(site)
        self.inputs.append(tensor.detach().clone())

    def leaving(self, site: Site, tensor: Tensor) -> None:
        self.outputs.append(tensor.detach().clone())

    def refused(self, name: str, why: str) -> None:
        self.refusals[name] = why

    def failed(self, place: str, error: Exception) -> None:
        self.faults.append((place, error))


def watch(model: nn.Module, *args: Any, thresholds: dict[str, float] | None = None) -> Seen:
    """What one pass shows."""
    watcher = sites.Watcher(model, lambda name: True, thresholds or {})
    seen = Seen()
    mode = watcher.mode(seen)
    sites.push(mode)
    try:
        model(*args)
    finally:
        sites.pop(mode)
    assert seen.faults == []
    return seen


def of(call: Callable[..., Any], *shape: int, **options: Any) -> Seen:
    """What one function shows, called inside a module that is named `inner` of a root."""
    return watch(Wrap(Wrap(nn.Identity(), lambda inner, x: call(inner(x)))), data(*(shape or (4, 6, 8, 8))), **options)


ZERO = torch.zeros(())
FUNCTIONS: dict[str, tuple[Callable[[Tensor], Any], str, dict[str, Any]]] = {
    "F.relu": (F.relu, "relu", {}),
    "F.relu in place": (lambda x: F.relu(x.clone(), inplace=True), "relu", {}),
    "torch.relu": (torch.relu, "relu", {}),
    "torch.relu_": (lambda x: torch.relu_(x.clone()), "relu", {}),
    "x.relu()": (lambda x: x.relu(), "relu", {}),
    "x.relu_()": (lambda x: x.clone().relu_(), "relu", {}),
    "clamp(min=0)": (lambda x: x.clamp(min=0), "relu", {"threshold": 0.0}),
    "clamp_(0.5)": (lambda x: x.clone().clamp_(0.5), "relu", {"threshold": 0.5}),
    "torch.clip(x, 0)": (lambda x: torch.clip(x, 0), "relu", {"threshold": 0.0}),
    "clamp_min(0)": (lambda x: x.clamp_min(0), "relu", {"threshold": 0.0}),
    "clamp(0, 6)": (lambda x: x.clamp(0, 6), "relu6", {}),
    "clamp(-2, 3)": (lambda x: torch.clamp(x, min=-2, max=3), "hardtanh", {"threshold": (-2.0, 3.0)}),
    "maximum with 0": (lambda x: torch.maximum(x, ZERO), "relu", {}),
    "max with zeros": (lambda x: torch.max(x, torch.zeros_like(x)), "relu", {}),
    "clamp(max=0.5)": (lambda x: x.clamp(max=0.5), "threshold", {"threshold": 0.5}),
    "clamp_max(0.5)": (lambda x: torch.clamp_max(x, 0.5), "threshold", {"threshold": 0.5}),
    "clamp(-inf, 0.5)": (lambda x: x.clamp(-torch.inf, 0.5), "threshold", {"threshold": 0.5}),
    "clamp by numpy": (lambda x: x.clamp(np.float32(0), np.float32(6)), "relu6", {}),
    "F.relu6": (F.relu6, "relu6", {}),
    "F.hardtanh": (F.hardtanh, "hardtanh", {"threshold": (-1.0, 1.0)}),
    "F.hardtanh given": (lambda x: F.hardtanh(x, -1, max_val=4), "hardtanh", {"threshold": (-1.0, 4.0)}),
    "F.hardsigmoid": (F.hardsigmoid, "hardtanh", {"threshold": (-3.0, 3.0)}),
    "F.threshold": (lambda x: F.threshold(x, 0.1, 0.0), "relu", {"threshold": 0.1}),
    "F.leaky_relu": (lambda x: F.leaky_relu(x, 0.1), "leaky_relu", {}),
    "F.rrelu": (F.rrelu, "leaky_relu", {}),
    "torch.prelu": (lambda x: torch.prelu(x, torch.tensor([0.25])), "leaky_relu", {}),
    "F.gelu": (F.gelu, "gate_sign", {}),
    "F.silu": (F.silu, "gate_sign", {}),
    "F.mish": (F.mish, "gate_sign", {}),
    "F.elu": (F.elu, "gate_sign", {}),
    "F.hardswish": (F.hardswish, "gate_sign", {}),
    "F.softplus": (F.softplus, "gate_sign", {}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_spelling_of_a_nonlinearity_is_one_site_with_its_rule(name: str) -> None:
    call, rule, options = FUNCTIONS[name]
    seen = of(call)
    assert [(site.rule, dict(site.options)) for site in seen.sites] == [(rule, options)]
    assert torch.equal(seen.inputs[0], data(4, 6, 8, 8))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert seen.outputs[0].shape == call(data(4, 6, 8, 8)).shape


MODULES: dict[str, tuple[nn.Module, str]] = {
    "ReLU": (nn.ReLU(), "relu"),
    "ReLU in place": (nn.ReLU(inplace=True), "relu"),
    "ReLU6": (nn.ReLU6(), "relu6"),
    "LeakyReLU": (nn.LeakyReLU(), "leaky_relu"),
    "PReLU": (nn.PReLU(6), "leaky_relu"),
    "RReLU": (nn.RReLU(), "leaky_relu"),
    "Hardtanh": (nn.Hardtanh(-2, 2), "hardtanh"),
    "Hardsigmoid": (nn.Hardsigmoid(), "hardtanh"),
    "Threshold": (nn.Threshold(0.1, 0.0), "relu"),
    "GELU": (nn.GELU(), "gate_sign"),
    "SiLU": (nn.SiLU(), "gate_sign"),
    "Mish": (nn.Mish(), "gate_sign"),
    "ELU": (nn.ELU(), "gate_sign"),
    "SELU": (nn.SELU(), "gate_sign"),
    "CELU": (nn.CELU(), "gate_sign"),
    "Hardswish": (nn.Hardswish(), "gate_sign"),
    "Softplus": (nn.Softplus(), "gate_sign"),
    "MaxPool2d": (nn.MaxPool2d(2), "maxpool"),
    "MaxPool2d with indices": (nn.MaxPool2d(2, return_indices=True), "maxpool"),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_calls_its_function_is_one_site_of_its_own_name(name: str) -> None:
    module, rule = MODULES[name]
    seen = watch(Wrap(module), data(4, 6, 8, 8))
    assert [(s.name, s.call, s.kind, s.rule) for s in seen.sites] == [("inner", 0, type(module).__name__, rule)]
    assert len(seen.outputs) == 1


@pytest.mark.parametrize(
    ("call", "shape", "expected"),
    [
        (lambda x: F.max_pool2d(x, 2), (4, 6, 8, 8), ((2, 2), (2, 2), (0, 0), (1, 1), False)),
        (lambda x: F.max_pool2d(x, (3, 2), stride=1, padding=1), (4, 6, 8, 8), ((3, 2), (1, 1), (1, 1), (1, 1), False)),
        (lambda x: torch.max_pool2d(x, 3, ceil_mode=True), (4, 6, 8, 8), ((3, 3), (3, 3), (0, 0), (1, 1), True)),
        (lambda x: F.max_pool1d(x, 2, dilation=2), (4, 6, 8), ((2,), (2,), (0,), (2,), False)),
        (lambda x: F.max_pool3d(x, 2), (4, 6, 8, 8, 4), ((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1), False)),
    ],
)
def test_the_windows_of_a_pool_are_read_from_its_arguments(
    call: Callable[[Tensor], Tensor], shape: tuple[int, ...], expected: tuple[Any, ...]
) -> None:
    (site,) = of(call, *shape).sites
    assert tuple(site.options.values()) == expected
    assert site.axis == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + 1,
        lambda x: x.clamp(min=-torch.inf),
        lambda x: x.clamp(max=torch.inf),
        lambda x: x.clamp(2, 1),
        lambda x: torch.maximum(x, torch.ones(())),
        lambda x: x.max(),
        lambda x: x.max(dim=1).values,
        lambda x: x.abs(),
    ],
)
def test_what_has_no_threshold_is_no_site(call: Callable[[Tensor], Tensor]) -> None:
    seen = of(call)
    assert (seen.sites, seen.refusals) == ([], {})


@pytest.mark.parametrize("call", [torch.tanh, F.tanh, torch.sigmoid, lambda x: x.sigmoid(), lambda x: F.glu(x, 1)])
def test_what_has_no_linear_pieces_is_refused_with_its_reason(call: Callable[[Tensor], Tensor]) -> None:
    seen = of(call)
    assert seen.sites == []
    ((name, why),) = seen.refusals.items()
    assert name.startswith("inner:")
    assert "no linear pieces" in why


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda x: x.clamp(min=torch.zeros(())), "tensors"),
        (lambda x: x.clamp(max=torch.nan), "NaN"),
        (F.softsign, "softsign has no linear pieces"),
        (F.logsigmoid, "logsigmoid has no linear pieces"),
        (F.tanhshrink, "tanhshrink has no linear pieces"),
        (F.hardshrink, "the middle one is constant"),
        (nn.Softshrink(), "the middle one is constant"),
        (lambda x: torch.relu(torch.nested.as_nested_tensor(list(x))), "nested tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_what_no_rule_counts_is_refused_with_its_reason(call: Callable[[Tensor], Tensor], why: str) -> None:
    seen = of(call)
    assert seen.sites == []
    assert [why in refusal for refusal in seen.refusals.values()] == [True]


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_a_layer_on_nested_tensors_is_no_fault() -> None:
    model = Wrap(nn.Linear(4, 4), lambda inner, x: inner(torch.nested.as_nested_tensor(list(x))))
    assert watch(model, data(3, 2, 4)).sites == []


def test_a_module_that_is_gone_does_not_lend_its_name_to_another_at_its_address() -> None:
    model = nn.ModuleDict({"first": nn.ReLU()})
    watcher = sites.Watcher(model, lambda name: True, {})
    first = model["first"]
    assert watcher.name_of(first) == "first"
    other = nn.ReLU()
    watcher._names[id(other)] = watcher._names[id(first)]  # as if it had been made where the first one was
    assert watcher.name_of(other) is None
    model["second"] = other
    watcher.mode(Seen())
    assert watcher.name_of(other) == "second"


def test_a_threshold_makes_a_smooth_function_a_site() -> None:
    (site,) = of(torch.tanh, thresholds={"tanh": 0.5}).sites
    assert (site.rule, site.options) == ("threshold", {"threshold": 0.5})


def test_calls_of_one_module_and_one_function_are_numbered_within_a_pass() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.act(self.act(x)) - 1)
            return F.relu(x - 0.1) + torch.relu(x) + F.gelu(x)

    model = Wrap(Block())
    for _ in range(2):
        assert [(s.name, s.call) for s in watch(model, data(3, 5)).sites] == [
            ("inner.act", 0),
            ("inner.act", 1),
            ("inner.act", 2),
            ("inner:relu", 0),
            ("inner:relu", 1),
            ("inner:gelu", 0),
        ]


def test_an_in_place_nonlinearity_is_shown_what_entered_it() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    seen = watch(model, data(5, 7))
    assert torch.equal(seen.inputs[0], data(5, 7))
    assert torch.equal(seen.outputs[0], data(5, 7).relu())


def test_units_lie_where_the_last_layer_of_that_shape_has_put_them() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.conv1, self.linear = nn.Conv2d(3, 5, 1), nn.Conv1d(4, 4, 1), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.conv(x) + 1)  # (N, 5, 6, 6)
            z = F.relu(self.linear(y) * 2)  # the same shape, units last
            F.relu(F.avg_pool2d(self.conv(x), 2))  # a pool keeps them
            F.relu(self.conv1(x[:, 0, :4]))  # (N, 4, 6), first
            F.relu(x[:, :, 0, 0])  # two axes: no question
            F.relu(x[:, :, :5, :5])  # never seen
            F.relu(x[:, :, :5, 0])
            F.relu(self.conv(x[0]))  # without a batch axis
            F.relu(self.conv1(x[0, 0, :4]))  # (4, 6), likewise: units first
            F.relu(F.layer_norm(self.conv(x), (5, 6, 6)))  # of whole maps: moves no units
            F.relu(F.layer_norm(self.conv(x).transpose(1, 3), (5,)))
            return z

    found = [(site.axis, site.guessed) for site in watch(Model(), data(2, 3, 6, 6)).sites]
    assert found == [
        (1, False), (3, False), (1, False), (1, False), (1, False), (1, True), (2, True), (0, False), (0, False),
        (1, False), (3, False),
    ]  # fmt: skip


def test_a_transformer_encoder_shows_the_function_inside_its_layers() -> None:
    seen = watch(seeded(Encoder).train(), tokens(3, 5))
    assert [(s.name, s.rule, s.axis, s.guessed) for s in seen.sites] == [
        (f"encoder.layers.{i}:relu", "relu", 2, False) for i in range(2)
    ]


def test_a_pass_computes_what_it_computed_and_leaves_no_mode_behind() -> None:
    for make, batch in ((Mlp, data(8, 6)), (ConvNet, data(4, 2, 8, 8)), (Recurrent, data(3, 4, 5))):
        model = seeded(make).eval()
        expected = model(batch)
        found: list[Tensor] = []
        watch(Wrap(model, lambda inner, x, found=found: found.append(inner(x))), batch)
        assert torch.equal(found[0], expected)
    assert torch.overrides._get_current_function_mode_stack() == []


def test_a_function_that_cannot_be_a_key_of_a_table_runs_as_ever() -> None:
    class Function:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, x: Tensor) -> Tensor:
            return handle_torch_function(self, (x,), x) if has_torch_function((x,)) else x.relu() + 1

    model = Wrap(nn.Identity(), lambda inner, x: Function()(inner(x)))
    found: list[Tensor] = []
    watch(Wrap(model, lambda inner, x: found.append(inner(x))), data(3))
    assert torch.equal(found[0], data(3).relu() + 1)


def test_a_mode_is_taken_from_under_others_which_stay() -> None:
    class Other(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*args, **(kwargs or {}))

    model = nn.ReLU()
    watcher = sites.Watcher(model, lambda name: True, {})
    mode, other = watcher.mode(Seen()), Other()
    sites.push(mode)
    with other:
        sites.pop(mode)
        assert torch.overrides._get_current_function_mode_stack() == [other]
        sites.pop(mode)  # once more does nothing
    assert torch.overrides._get_current_function_mode_stack() == []


def test_what_a_parametrization_does_to_weights_is_no_site() -> None:
    class Positive(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return F.relu(F.softplus(weight)) + nn.functional.relu6(weight)

    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    nn.utils.parametrize.register_parametrization(model[0], "weight", Positive())
    nn.utils.parametrize.register_parametrization(model[0], "bias", nn.ReLU())
    assert [site.name for site in watch(model, data(4, 6)).sites] == ["1"]


def test_outside_of_any_module_nothing_is_a_site() -> None:
    model = nn.ReLU()
    watcher = sites.Watcher(model, lambda name: True, {})
    seen = Seen()
    mode = watcher.mode(seen)
    sites.push(mode)
    F.relu(data(3))
    sites.pop(mode)
    assert seen.sites == []


def test_recomputation_and_tracing_show_nothing() -> None:
    from torch.utils.checkpoint import checkpoint

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(lambda y: F.relu(y), x, use_reentrant=False).sum()

    model = Model()
    watcher = sites.Watcher(model, lambda name: True, {})
    seen = Seen()
    mode = watcher.mode(seen)
    sites.push(mode)
    model(data(3).requires_grad_()).backward()
    assert len(seen.sites) == 1
    torch.jit.trace(model, data(3), check_trace=False)
    sites.pop(mode)
    assert len(seen.sites) == 1
    assert seen.faults == []
