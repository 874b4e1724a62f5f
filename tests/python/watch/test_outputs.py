"""Outputs of every kind are measured or refused by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netassay as na
from python.models import Mlp, Wrap, assert_is_state_of, data, equal, reasons
from python.watching import never_observed


def with_layout(kind: str, x: Tensor) -> Tensor:
    if kind == "transposed":
        return x.t().contiguous().t()
    if kind == "strided":
        return x.repeat_interleave(2, dim=0).repeat_interleave(3, dim=1)[::2, ::3]
    if kind == "expanded":
        return x[:1].expand_as(x)
    if kind == "offset":
        return torch.cat([torch.zeros(x.numel() % 3 + 1, dtype=x.dtype), x.flatten()])[-x.numel() :].view_as(x)
    if kind == "negated view":
        return torch._neg_view(-x)
    return x


@pytest.mark.parametrize("kind", ["contiguous", "transposed", "strided", "expanded", "offset", "negated view"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_any_strides_and_dtype_measure_as_the_contiguous_copy_and_are_not_changed(
    kind: str, dtype: torch.dtype
) -> None:
    x = with_layout(kind, data(30, 6, dtype=dtype))
    assert kind != "negated view" or x.is_neg()
    before = x.clone(memory_format=torch.contiguous_format)
    model = nn.Identity()
    with na.watch(model, layers="(root)") as odd:
        model(x)
    with na.watch(model, layers="(root)") as plain:
        model(before)
    assert equal(odd.states["(root)", "train"], plain.states["(root)", "train"])
    assert torch.equal(x, before)


class Make(nn.Module):
    """Returns what it is told to, beside a layer that is measured."""

    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.odd, self.layer = Wrap(nn.Identity(), lambda _, x: make(x)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Any:
        return self.layer(x), self.odd(x)


class Marked(torch.Tensor):
    """A tensor subclass of the user's own."""


REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "meta": (lambda x: x.to("meta"), "meta"),
    "sparse": (lambda x: x.to_sparse(), "sparse"),
    "sparse rows": (lambda x: x.to_sparse_csr(), "sparse"),
    "subclass": (lambda x: x.as_subclass(Marked), "Marked"),
    "integers": (lambda x: x.long(), "int64"),
    "booleans": (lambda x: x > 0, "bool"),
    "complex": (lambda x: torch.complex(x, x), "complex64"),
    "quantised": (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantised"),
    "nested": (lambda x: torch.nested.nested_tensor([x[:3], x[3:]]), "[Nn]ested"),
    "None": (lambda x: None, "no tensor"),
    "a number": (lambda x: 3.0, "no tensor"),
    "an empty tuple": (lambda x: (), "no tensor"),
    "a scalar": (lambda x: x.sum(), "scalar"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore:.*(nested tensors|CSR|quantize|Quantiz|torch.ao):UserWarning")
def test_an_output_that_cannot_be_read_is_left_out_with_its_reason(name: str) -> None:
    make, reason = REFUSED[name]
    model = Make(make)
    with na.watch(model, layers=["layer", "odd"]) as watch:
        for _ in range(5):
            model(data(8, 4))
    report = watch.report()
    assert [row.name for row in report.layers] == ["layer"]
    assert report["layer"].saturation.rows == 40
    assert re.search(reason, reasons(report)["odd"])


def test_a_shard_of_a_distributed_tensor_is_never_taken_for_the_whole() -> None:
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("torch was built without gloo")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        model = Make(lambda x: distribute_tensor(x.detach(), mesh, [Shard(0)]))
        with na.watch(model, layers=["layer", "odd"]) as watch:
            model(data(8, 4))
    finally:
        distributed.destroy_process_group()
    assert "DTensor" in reasons(watch.report())["odd"]


def test_a_model_on_the_meta_device_shows_nothing_and_the_error_says_why() -> None:
    model = Mlp().to("meta")
    with na.watch(model) as watch:
        model(torch.empty(8, 6, device="meta"))
    assert "meta" in never_observed(watch)


def test_fake_tensors_are_left_out() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = Mlp()
        with na.watch(model) as watch:
            model(torch.empty(8, 6))
    assert "FakeTensor" in never_observed(watch)


def test_a_lazy_layer_is_measured_as_the_layer_it_becomes() -> None:
    model = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyConv1d(3, 1))
    with na.watch(model) as watch:
        model[:2](data(8, 4))
        model[2](data(8, 4, 6))
    report = watch.report()
    assert (report["0"].kind, report["0"].shape, report["0"].saturation.rows) == ("Linear", (5, 4), 8)
    assert (report["2"].kind, report["2"].saturation.rows) == ("Conv1d", 48)
    assert report.coverage.parameters_total == 25 + 15


@dataclass
class Output:
    loss: float
    hidden: Tensor


STRUCTURES: dict[str, Callable[[Tensor], Any]] = {
    "tuple": lambda x: (x, x + 1),
    "list": lambda x: [x],
    "dict": lambda x: {"hidden": x, "other": None},
    "dataclass": lambda x: Output(0.0, x),
    "None first": lambda x: (None, x),
    "nested": lambda x: {"a": (None, {"b": [x]})},
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_of_a_structure_the_first_tensor_is_measured_and_the_user_gets_the_structure(name: str) -> None:
    model = Make(STRUCTURES[name])
    batch = data(8, 4)
    expected = model(batch)[1]
    with na.watch(model, layers=["layer", "odd"], precision="exact") as watch:
        output = model(batch)[1]
    assert type(output) is type(expected)
    assert_is_state_of(watch.states["odd", "train"], batch.double().numpy())
    assert "layout_guessed" in watch.report()["odd"].saturation.flags


def test_a_layer_whose_width_changes_keeps_its_rows_and_notes_those_left_out() -> None:
    model = nn.Identity()
    with na.watch(model, layers="(root)") as watch:
        model(data(8, 4))
        model(data(8, 5))
        model(data(8, 4, seed=1))
    state = watch.states["(root)", "train"]
    assert (state.count, state.width) == (16, 4)
    assert any("width" in note for note in watch.report().coverage.notes)
