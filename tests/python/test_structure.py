"""measure_structure: what a model costs where hooks see nothing, its rows, its totals, and what it left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import netassay
from netassay import Report, algebra, measure_structure
from netassay.algebra import semantics
from netassay.base.errors import NothingObserved, ShapeError, UnsupportedLayout
from netassay.report import UnknownLayer
from python import llama
from python.architectures import (
    Branches,
    DataDependent,
    Depthwise,
    SharedModules,
    SqueezeExcite,
    TwoOutputs,
    alexnet,
    mobilenet_v2,
    on_meta,
    resnet18,
    vgg16,
)
from python.graphs import Branching, Cells, Functional
from python.models import ConvNet, Encoder, Mlp, Recurrent, Wrap, data, tokens


def cost(model: nn.Module, example: Any, **options: Any) -> tuple[int, int]:
    """Parameters and MACs per sample, of the totals; the rows must add up to the same MACs."""
    report = measure_structure(model, example, exact=False, **options)
    assert sum(row.algebra.macs for row in report) == report.totals["macs"]
    return report.totals["parameters"], report.totals["macs"]


# ---- parameters and multiply-accumulates ----


@pytest.mark.parametrize(
    ("layer", "shape", "parameters", "macs"),
    [
        (nn.Linear(7, 3), (1, 5, 7), 24, 5 * 3 * 7),
        (nn.Conv1d(3, 4, 5, padding=2), (1, 3, 10), 64, 4 * 10 * 3 * 5),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), (1, 4, 8, 8), 152, 8 * 16 * 2 * 9),
        (nn.Conv2d(3, 5, 3, dilation=2), (1, 3, 9, 9), 140, 5 * 25 * 3 * 9),
        (nn.Conv2d(3, 5, 3, padding="same"), (1, 3, 9, 9), 140, 5 * 81 * 3 * 9),
        (nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), (1, 3, 9, 9), 140, 5 * 81 * 3 * 9),
        (nn.Conv2d(6, 6, (3, 1), groups=6, bias=False), (1, 6, 5, 5), 18, 6 * 15 * 3),
        (nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), 51, 3 * 27 * 2 * 8),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5), 222, 4 * 25 * 6 * 9),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 5, 5), 114, 4 * 25 * 3 * 9),
        (nn.ConvTranspose1d(3, 2, 4), (1, 3, 5), 26, 3 * 5 * 2 * 4),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Softmax(1)), (1, 3, 4, 4), 6, 0),
        (nn.LSTM(3, 4, batch_first=True), (1, 5, 3), 144, 5 * 16 * (3 + 4)),
        (nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True), (1, 5, 3), 736, 5 * 2 * 16 * ((3 + 4) + (8 + 4))),
        (nn.LSTM(3, 4, proj_size=2, batch_first=True), (1, 5, 3), 120, 5 * (16 * (3 + 2) + 2 * 4)),
        (nn.GRU(3, 4, batch_first=True), (1, 5, 3), 108, 5 * 12 * (3 + 4)),
        (nn.RNN(3, 4, batch_first=True, nonlinearity="relu"), (1, 5, 3), 36, 5 * 4 * (3 + 4)),
        (Cells(), (1, 3, 3), 144, 3 * 16 * (3 + 4)),
        (Functional(), (1, 6), 30 + 5 + 20 + 12, 30 + 20 + 12),
        (SharedModules(), (1, 6), 83, 30 + 2 * 25 + 15),
        (Depthwise(), (1, 4, 8, 8), 80, 4 * 16 * 9 + 8 * 16 * 4),
        (TwoOutputs(), (1, 6), 65, 30 + 15 + 10),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_parameters_and_macs_are_those_of_the_definition(
    layer: nn.Module, shape: tuple[int, ...], parameters: int, macs: int
) -> None:
    assert sum(p.numel() for p in layer.parameters()) == parameters  # torch lists a shared one once
    assert cost(layer, data(*shape)) == (parameters, macs)


def test_two_factors_that_both_come_from_the_input_are_a_product_with_a_cost() -> None:
    product = Wrap(nn.Identity(), lambda m, a, b: a @ b)
    assert cost(product, (data(1, 3, 4), data(1, 4, 5))) == (0, 3 * 4 * 5)
    assert cost(product, (data(1, 2, 3, 4), data(1, 2, 4, 5))) == (0, 2 * 3 * 4 * 5)
    scores = Wrap(nn.Identity(), lambda m, a, b: torch.einsum("bhid,bhjd->bhij", a, b))
    assert cost(scores, (data(1, 2, 3, 4), data(1, 2, 5, 4))) == (0, 2 * 3 * 5 * 4)
    bilinear = nn.Bilinear(3, 4, 5)
    assert cost(bilinear, (data(1, 3), data(1, 4))) == (65, 60)


@pytest.mark.parametrize(
    ("query", "key", "value", "options", "macs"),
    [
        ((1, 2, 5, 4), (1, 2, 5, 4), (1, 2, 5, 4), {}, 2 * 2 * 5 * 5 * 4),
        ((1, 2, 5, 4), (1, 2, 5, 4), (1, 2, 5, 4), {"is_causal": True}, 2 * 2 * 5 * 5 * 4),
        ((1, 2, 3, 4), (1, 2, 7, 4), (1, 2, 7, 6), {}, 2 * 3 * 7 * (4 + 6)),
        ((1, 4, 5, 8), (1, 2, 5, 8), (1, 2, 5, 8), {"enable_gqa": True}, 2 * 4 * 5 * 5 * 8),
        ((1, 5, 4), (1, 5, 4), (1, 5, 4), {}, 2 * 5 * 5 * 4),
    ],
    ids=["self", "causal", "cross", "grouped", "one head"],
)
def test_attention_counts_its_two_products(query: Any, key: Any, value: Any, options: Any, macs: int) -> None:
    model = Wrap(nn.Identity(), lambda m, *qkv: F.scaled_dot_product_attention(*qkv, **options))
    assert cost(model, (data(*query), data(*key), data(*value))) == (0, macs)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_multihead_attention_costs_the_same_frozen_or_not_with_weights_or_without(
    frozen: bool, need_weights: bool, training: bool
) -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True).train(training).requires_grad_(not frozen)
    example = {**dict.fromkeys(("query", "key", "value"), data(1, 5, 8)), "need_weights": need_weights}
    # in, q k^T, a v, out
    assert cost(attention, example) == (4 * 64 + 32, 5 * 3 * 64 + 2 * 5 * 5 * 8 + 5 * 64)


def test_an_encoder_layer_is_not_free_where_its_fused_path_would_be_taken() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval().requires_grad_(False)
    with torch.no_grad():
        _, macs = cost(layer, data(1, 5, 8))
    assert macs == 5 * 3 * 64 + 2 * 5 * 5 * 8 + 5 * 64 + 5 * 2 * 8 * 16


def test_a_decoder_layer_attends_to_itself_and_to_a_memory_of_another_length() -> None:
    layer = nn.TransformerDecoderLayer(8, 2, 16)
    _, macs = cost(layer, (data(4, 1, 8), data(3, 1, 8)), batch_axis=1)
    itself = 4 * 3 * 64 + 2 * 4 * 4 * 8 + 4 * 64
    memory = 4 * 64 + 3 * 2 * 64 + 2 * 4 * 3 * 8 + 4 * 64
    assert macs == itself + memory + 4 * 2 * 8 * 16


def test_an_einsum_of_three_costs_its_two_products() -> None:
    model = Wrap(nn.Identity(), lambda m, x: torch.einsum("nij,njk,nkl->nil", x, x, x))
    with FlopCounterMode(display=False) as counter:
        model(data(1, 8, 8))
    assert cost(model, data(1, 8, 8)) == (0, counter.get_total_flops() // 2) == (0, 2 * 8**3)


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_costs_are_per_sample_whatever_the_batch_of_the_example(batch: int) -> None:
    assert cost(ConvNet(), data(batch, 2, 8, 8)) == (609, 384 * 18 + 72 * 54 + 24)
    assert cost(Encoder(), tokens(batch, 4)) == cost(Encoder(), tokens(1, 4))
    assert cost(Recurrent(), data(batch, 3, 5)) == cost(Recurrent(), data(1, 3, 5))
    assert cost(nn.LSTM(3, 4), data(5, batch, 3), batch_axis=1) == (144, 5 * 16 * 7)


PUBLISHED = {alexnet: 61_100_840, vgg16: 138_357_544, resnet18: 11_689_512, mobilenet_v2: 3_504_872}


@pytest.mark.parametrize("make", PUBLISHED, ids=lambda make: make.__name__)
def test_published_networks_have_their_published_parameters_and_the_macs_that_torch_counts(
    make: Callable[[], nn.Module],
) -> None:
    model, x = on_meta(make), torch.ones(1, 3, 224, 224, device="meta")
    with FlopCounterMode(display=False) as counter:  # of what runs, by its operators, two for each MAC
        model(x)
    assert cost(model, x) == (PUBLISHED[make], counter.get_total_flops() // 2)


@pytest.mark.parametrize(
    ("make", "shape"),
    [(ConvNet, (1, 2, 8, 8)), (Branches, (1, 3, 8, 8)), (SqueezeExcite, (1, 3, 8, 8)), (Functional, (1, 6))],
)
def test_small_networks_have_the_macs_that_torch_counts(make: Callable[[], nn.Module], shape: Any) -> None:
    model = make().eval()
    with FlopCounterMode(display=False) as counter:
        model(data(*shape))
    assert cost(model, data(*shape))[1] == counter.get_total_flops() // 2


def test_a_decoder_with_grouped_queries_costs_its_layers_and_its_attention() -> None:
    model = llama.small()
    parameters, macs = cost(model, torch.ones(1, 5, dtype=torch.int64), strict=True)
    assert parameters == sum(p.numel() for p in model.parameters())
    assert macs == llama.macs(5, **llama.SMALL)


# ---- rows ----


def test_rows_stand_in_the_order_of_the_run_with_kind_shape_and_parameters() -> None:
    report = measure_structure(ConvNet(), data(1, 2, 8, 8))
    assert [(row.name, row.call, row.kind, row.shape, row.parameters) for row in report] == [
        ("conv1", None, "Conv2d", (6, 2, 3, 3), 114),
        ("bn1", None, "BatchNorm2d", (6,), 12),
        ("relu", 0, "ReLU", None, 0),
        ("conv2", None, "Conv2d", (8, 6, 3, 3), 440),
        ("bn2", None, "BatchNorm2d", (8,), 16),
        ("relu", 1, "ReLU", None, 0),
        ("(root):mean", None, "mean", None, 0),
        ("fc", None, "Linear", (3, 8), 27),
    ]
    assert {(row.mode, row.calls, *row.measures) for row in report} == {(None, None, "algebra")}


def test_a_row_is_found_by_name_and_by_call() -> None:
    report = measure_structure(SharedModules(), data(1, 6))
    assert report["first"].algebra.macs == 30
    assert report["shared", 1].call == 1
    assert report["relu", 2].algebra.region_bits == 5
    with pytest.raises(UnknownLayer, match="'shared' has several call sites"):
        report["shared"]


class TokenMixer(nn.Module):
    """Patches of 4 x 4, a layer over the patches of each of more channels than patches, one over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.tokens, self.channels = nn.Conv2d(3, 24, 4, 4), nn.Linear(16, 16), nn.Linear(24, 24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2)
        return self.channels((x + self.tokens(x)).transpose(1, 2))


def test_a_layer_over_all_patches_sees_the_whole_input_also_of_more_channels_than_patches() -> None:
    report = measure_structure(TokenMixer(), data(1, 3, 16, 16))
    assert report["patches"].algebra.receptive_field == (4, 4)
    for name in ("tokens", "channels"):
        assert report[name].algebra.receptive_field is None
        assert "covers_input" in report[name].algebra.flags


@pytest.mark.parametrize(
    ("layers", "stride"),
    [
        ([nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(1, 1, 3, padding=1)], 0.5),
        ([nn.PixelUnshuffle(2), nn.Conv2d(4, 1, 3)], 2),
        ([nn.ConvTranspose2d(1, 1, 3, dilation=3), nn.Conv2d(1, 1, 3)], 1),
        ([nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1), nn.Conv2d(1, 1, 3)], 0.5),
        ([nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(1, 1, 3, stride=2)], 1),
    ],
    ids=["pixel_shuffle", "pixel_unshuffle", "dilated transposed", "transposed", "bilinear"],
)
def test_a_receptive_field_is_where_the_gradient_of_one_unit_is_not_zero(
    layers: list[nn.Module], stride: float
) -> None:
    """Of the two units in the middle the larger one: between positions of the input they differ."""
    model = nn.Sequential(*layers)
    for parameter in model.parameters():
        nn.init.ones_(parameter)
    x = torch.ones(1, 1, 32, 32, requires_grad=True)
    y = model(x)
    middle = y.shape[-1] // 2
    spans = []
    for at in (middle, middle + 1):
        (gradient,) = torch.autograd.grad(y[0, 0, at, at], x, retain_graph=True)
        seen = gradient[0, 0].sum(0).nonzero()
        spans.append(int(seen.max() - seen.min()) + 1)
    *_, last = measure_structure(model, x)
    assert last.algebra.receptive_field == (max(spans),) * 2
    assert last.algebra.stride == (stride, stride)


def test_a_call_has_every_number_of_the_issue() -> None:
    found = measure_structure(ConvNet(), data(1, 2, 8, 8))["conv2"].algebra
    assert found.log2_paths == pytest.approx(9.92481250360578)  # log2(18 * 54)
    assert found.log2_paths_exact == pytest.approx(exact_bits())
    assert (found.cut, found.bottleneck) == (72, 72)
    assert found.intrinsic_power == pytest.approx(0.8300749985576876)  # log2(128 / 72)
    assert found.local_power == pytest.approx(2.415037499278844)  # log2(384 / 72)
    assert (found.receptive_field, found.stride) == ((5, 5), (2.0, 2.0))
    assert (found.macs, found.parameters, found.region_bits, found.flags) == (3888, 440, 0.0, ())
    assert found.path_share == pytest.approx(1)


def exact_bits() -> float:
    """log2 of the mean paths into conv2, by a forward pass of plain convolutions with weights of one."""
    x = torch.ones(1, 2, 8, 8, dtype=torch.float64)
    x = F.conv2d(x, torch.ones(6, 2, 3, 3, dtype=torch.float64), padding=1)
    return F.conv2d(x, torch.ones(8, 6, 3, 3, dtype=torch.float64), stride=2).mean().log2().item()


def test_totals_are_the_fields_of_the_network_and_those_of_the_issue() -> None:
    report = measure_structure(Mlp(), data(1, 6))
    assert list(report.totals) == [f.name for f in fields(algebra.NetworkAlgebra) if f.name != "calls"]
    named = "parameters macs log2_paths layer_paths path_lengths region_bits intrinsic_power vc_bound serra_regions"
    assert {*named.split(), "unknown", "log2_paths_exact"} <= report.totals.keys()
    plain = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
    totals = measure_structure(plain, data(1, 2)).totals
    assert totals["serra_regions"] == 121
    assert 2 ** totals["region_bits"] == pytest.approx(121)
    assert (totals["layer_paths"], totals["path_lengths"]) == (1, (0, 0, 0, 1))
    assert totals["log2_paths"] == totals["log2_paths_exact"] == 5


def test_exact_counts_may_be_left_out() -> None:
    without = measure_structure(ConvNet(), data(1, 2, 8, 8), exact=False)
    assert without.totals["log2_paths_exact"] is None
    assert {row.algebra.log2_paths_exact for row in without} == {None}
    assert without.totals["log2_paths"] == measure_structure(ConvNet(), data(1, 2, 8, 8)).totals["log2_paths"]


# ---- what was left out, what is not known ----


def test_parameters_that_the_run_does_not_read_are_listed_with_their_count() -> None:
    coverage = measure_structure(DataDependent(), torch.ones(1, 6)).coverage
    assert [(s.name, s.parameters) for s in coverage.skipped] == [("negative", 21)]
    assert coverage.skipped[0].reason == "its parameters are not read by the run"
    assert (coverage.parameters_measured, coverage.parameters_total) == (21, 42)
    assert any("recorded on this input" in note for note in coverage.notes)


def test_a_report_says_which_run_of_which_model_it_is_of() -> None:
    model = nn.DataParallel(Mlp())
    report = measure_structure(model, data(1, 6))
    watched = netassay.watch(model)
    model.module(data(40, 6))
    assert report.provenance["source"] == "torch.export Mlp"
    assert report.provenance["wrappers"] == ["DataParallel"]
    assert report.provenance["fingerprint"] == watched.report().provenance["fingerprint"]
    watched.close()
    recorded = measure_structure(Branching(Mlp()), data(1, 6))
    assert recorded.provenance["source"] == "recorded run Branching"


def test_equal_runs_make_equal_reports_but_for_the_date() -> None:
    first, second = (measure_structure(Encoder(), tokens(1, 4)) for _ in range(2))
    assert first.to_dict(volatile=False) == second.to_dict(volatile=False)


@pytest.mark.parametrize(
    ("model", "example", "error", "says"),
    [
        (object(), torch.ones(1, 6), TypeError, "measure_structure: got object"),
        (Mlp(), [], TypeError, "measure_structure: got an example input without a tensor"),
        (Mlp(), torch.ones(()), ShapeError, "measure_structure: got an example input of shape"),
        (Mlp(), torch.ones(1, 5), UnsupportedLayout, "measure_structure: Mlp cannot be followed"),
        (nn.Identity(), torch.ones(1, 5), NothingObserved, "measure_structure: Identity runs no operation"),
    ],
)
def test_what_cannot_be_measured_is_refused(model: Any, example: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        measure_structure(model, example)


@pytest.fixture
def doubling() -> Iterator[Callable[[Tensor], Tensor]]:
    """An operation of a library that no table knows; the table is restored."""

    @torch.library.custom_op("netassay_tests::doubled", mutates_args=())
    def doubled(x: Tensor) -> Tensor:
        return 2 * x

    doubled.register_fake(torch.empty_like)
    before = dict(semantics._RULES)
    yield doubled
    semantics._RULES.clear()
    semantics._RULES.update(before)


def test_an_operation_that_is_not_known_is_counted_named_and_an_error_when_strict(doubling: Any) -> None:
    model = Wrap(nn.Linear(6, 4), lambda m, x: doubling(m(doubling(x))))
    report = measure_structure(model, data(1, 6))
    assert report.totals["unknown"] == 2
    assert report.totals["unknown_operations"] == {"netassay_tests::doubled": 2}
    unknown = [row for row in report if "unknown" in row.algebra.flags]
    assert [(row.name, row.call) for row in unknown] == [("(root):netassay_tests::doubled", k) for k in (0, 1)]
    taught = "netassay_tests::doubled (2); netassay.algebra.register teaches an operation"
    assert [taught in note for note in report.coverage.notes].count(True) == 1
    (finding,) = (f for f in report.findings if f.level == "problem")
    assert (finding.kind, finding.evidence["count"]) == ("unknown_operations", 2)
    assert finding.message.startswith("(root):netassay_tests::doubled (call 0): an operation that is not in the table")
    assert report.totals["flags"]["macs"] == ("lower_bound",)
    assert re.search(r"macs +at least 24\n", str(report))
    with pytest.raises(UnsupportedLayout, match=r"got the operation 'netassay_tests::doubled' in '\(root\)"):
        measure_structure(model, data(1, 6), strict=True)


def test_an_operation_that_is_registered_is_known_from_then_on(doubling: Any) -> None:
    model = Wrap(nn.Linear(6, 4), lambda m, x: doubling(m(x)))
    algebra.register("netassay_tests::doubled", lambda call: algebra.Leaf(macs=call.size))
    report = measure_structure(model, data(1, 6), strict=True)
    assert (report.totals["unknown"], report.totals["macs"]) == (0, 24 + 4)
    assert report.findings == ()


def test_the_report_is_one_of_the_package() -> None:
    assert isinstance(measure_structure(Mlp(), data(1, 6)), Report)
