"""Checkpoints in memory: which tensors of a state_dict or a module are weights, under which names, and their values."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from netassay.base.errors import DTypeError, LimitExceeded, UnsupportedLayout
from netassay.sources import layers
from netassay.sources.checkpoint import judge, tensors
from netassay.sources.checkpoint.checkpoint import Checkpoint, Skip, Stored, open_checkpoint

pytestmark = pytest.mark.native


def weights(source: Any) -> dict[str, Stored]:
    return {weight.layer: weight for weight in open_checkpoint(source).weights}


def reasons(source: Any) -> dict[str, str]:
    return {skip.name: skip.reason for skip in open_checkpoint(source).skipped}


def values(source: Any, layer: str) -> np.ndarray:
    checkpoint = open_checkpoint(source)
    stored = next(weight for weight in checkpoint.weights if weight.layer == layer)
    view = checkpoint.read(stored)
    assert view.array.shape == stored.shape
    assert view.dtype == stored.dtype
    return np.array(view.array)


def accounted(checkpoint: Checkpoint) -> int:
    return sum(one.parameters for one in (*checkpoint.weights, *checkpoint.skipped))


# ---- Names ----


def test_a_tensor_is_named_by_its_layer_and_other_matrices_keep_their_whole_name() -> None:
    names = ("a.b.weight", "weight", "rnn.weight_hh_l0", "attn.in_proj_weight", "table")
    found = weights({name: torch.ones(2, 3) for name in names})
    assert list(found) == ["a.b", "(root)", "rnn.weight_hh_l0", "attn.in_proj_weight", "table"]
    assert [weight.name for weight in found.values()] == list(names)


def test_a_layer_name_that_another_tensor_has_is_not_taken_twice() -> None:
    assert list(weights({"a.weight": torch.ones(2, 2), "a": torch.ones(2, 2)})) == ["a.weight", "a"]


@pytest.mark.parametrize(
    ("keys", "prefix"),
    [
        ((), ""),
        (("state_dict",), "module."),
        (("model",), "module._orig_mod."),
        (("checkpoint", "model"), "_orig_mod."),
    ],
)
def test_wrappers_are_stripped_and_noted(keys: tuple[str, ...], prefix: str) -> None:
    source: Any = {prefix + "fc.weight": torch.ones(2, 3), prefix + "fc.bias": torch.ones(2)}
    for key in reversed(keys):
        source = {key: source, "epoch": 3}
    checkpoint = open_checkpoint(source)
    assert checkpoint.weights[0].name == "fc.weight"
    assert checkpoint.wrappers == (*keys, *tensors_of(prefix))
    assert [note for note in checkpoint.notes if "epoch" in note] == [f"left out beside {key}: epoch" for key in keys]


def tensors_of(prefix: str) -> tuple[str, ...]:
    return tuple(f"{part}." for part in prefix.split(".") if part)


def test_a_prefix_that_not_every_tensor_has_stays() -> None:
    assert list(weights({"module.a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2)})) == ["module.a", "b"]


def test_a_common_attribute_called_model_stays() -> None:
    assert list(weights({"model.a.weight": torch.ones(2, 2)})) == ["model.a"]


def test_a_counter_beside_a_wrapped_model_does_not_keep_the_wrapper() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(nn.Linear(3, 2))
    assert list(weights(averaged.state_dict())) == ["(root)"]


def test_a_state_dict_is_found_before_the_tensors_that_stand_beside_it() -> None:
    source = {"best": torch.tensor(93.1), "state_dict": {"a.weight": torch.ones(2, 2)}}
    assert open_checkpoint(source).wrappers == ("state_dict",)


def test_several_groups_of_tensors_are_not_chosen_from() -> None:
    source = {"generator": {"w": torch.ones(2, 2)}, "critic": {"w": torch.ones(2, 2)}}
    with pytest.raises(UnsupportedLayout, match=r"several groups of tensors \(critic, generator\)"):
        open_checkpoint(source)


def test_a_mapping_that_holds_itself_is_refused() -> None:
    source: dict[str, Any] = {"epoch": 1}
    source["model"] = source
    with pytest.raises(UnsupportedLayout, match="expected a state_dict"):
        open_checkpoint(source)


@pytest.mark.parametrize("source", [3, None, [torch.ones(2, 2)], {}, {"a": 1}])
def test_what_is_no_checkpoint_is_refused(source: Any) -> None:
    with pytest.raises(UnsupportedLayout, match=r"open_checkpoint: .*expected a"):
        open_checkpoint(source)


# ---- What is a weight ----


@pytest.mark.parametrize(
    ("tensor", "reason", "parameters"),
    [
        (torch.ones(4), "bias or norm: one axis", 4),
        (torch.tensor(1.5), "a single number", 1),
        (torch.ones(0, 4), "empty", 0),
        (torch.ones(2, 3, dtype=torch.int64), "int64: not a weight", 0),
        (torch.ones(2, 3, dtype=torch.bool), "bool: not a weight", 0),
        (torch.ones(2, 3, dtype=torch.complex64), "complex64: not a weight", 6),
        (torch.ones(2, 3, device="meta"), "meta tensor: it has a shape and no values", 6),
        (torch.eye(3).to_sparse(), "sparse tensor (torch.sparse_coo)", 9),
    ],
)
def test_what_is_no_weight_is_skipped_with_its_reason(tensor: torch.Tensor, reason: str, parameters: int) -> None:
    checkpoint = open_checkpoint({"a.weight": torch.ones(2, 2), "x": tensor})
    assert list(checkpoint.skipped) == [Skip("x", reason, parameters)]
    assert checkpoint.parameters == 4 + parameters == accounted(checkpoint)


def test_a_tensor_called_bias_is_none_whatever_its_axes() -> None:
    assert reasons({"h.0.attn.bias": torch.ones(1, 1, 8, 8), "w": torch.ones(2, 2)}) == {"h.0.attn.bias": "bias"}


@pytest.mark.filterwarnings("ignore")
def test_torchs_quantised_tensors_are_skipped() -> None:
    quantised = torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)
    assert reasons({"a.weight": torch.ones(2, 2), "q": quantised})["q"].startswith("quantised tensor")


def test_a_subclass_of_tensor_is_never_taken_for_the_whole() -> None:
    class Shard(torch.Tensor):
        pass

    shard = torch.ones(2, 3).as_subclass(Shard)
    assert reasons({"w": torch.ones(2, 2), "s": shard})["s"] == (
        "a Shard is not a plain tensor: a shard or a wrapper is never taken for the whole"
    )


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2])
def test_eight_bits_are_a_weight_where_no_scale_stands_beside_them(dtype: torch.dtype) -> None:
    plain = torch.arange(6).reshape(2, 3).to(dtype)
    found = values({"a.weight": plain, "a.bias": torch.ones(2), "b.scale": torch.ones(1)}, "a")
    assert np.array_equal(found.view(np.uint8), plain.view(torch.uint8).numpy())


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
@pytest.mark.parametrize(
    "scale",
    [
        "a.weight_scale",
        "a.weight_scale_inv",
        "a.scales",
        "a.SCB",
        "a.weight.absmax",
        "a.zero_point",
        "a.weight_scale_2",
    ],
)
def test_eight_bits_with_a_scale_beside_them_are_quantised(dtype: torch.dtype, scale: str) -> None:
    state = {"a.weight": torch.ones(2, 3).to(dtype), scale: torch.ones(2, 1), "b.weight": torch.ones(2, 2)}
    assert re.fullmatch(rf"quantised, \w[^:]*: {scale} stands beside it", reasons(state)["a.weight"])
    assert scale in reasons(state)
    assert list(weights(state)) == ["b"]


def test_packed_integers_their_scales_and_zeros_are_quantised() -> None:
    state = {
        "a.qweight": torch.ones(4, 8, dtype=torch.int32),
        "a.qzeros": torch.ones(4, 1, dtype=torch.int32),
        "a.scales": torch.ones(4, 8),
        "a.g_idx": torch.ones(32, dtype=torch.int32),
        "b.weight": torch.ones(2, 2),
    }
    checkpoint = open_checkpoint(state)
    assert [weight.layer for weight in checkpoint.weights] == ["b"]
    found = reasons(state)
    assert found["a.qweight"] == "quantised, GPTQ, 4 bits: a.qzeros stands beside it"
    assert {found[f"a.{name}"] for name in ("qzeros", "scales", "g_idx")} == {"quantised: a scale or a zero point"}
    assert checkpoint.parameters == accounted(checkpoint) == 32 * 8 + 4


def test_a_scale_beside_ordinary_floats_is_a_matrix_like_any_other() -> None:
    assert list(weights({"a.weight": torch.ones(2, 3), "a.scale": torch.ones(2, 3)})) == ["a", "a.scale"]


@pytest.mark.filterwarnings("ignore")
def test_what_a_weight_is_made_from_is_none_in_a_state_dict() -> None:
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(3, 4)), weight_norm(nn.Linear(4, 4)), spectral_norm(nn.Linear(4, 4))
    )
    pruned = nn.Linear(4, 4)
    prune.l1_unstructured(pruned, "weight", 3)
    model.append(pruned).append(nn.Linear(4, 2))
    assert list(weights(model.state_dict())) == ["4"]
    found = reasons(model.state_dict())
    assert found["0.parametrizations.weight.original1"].startswith("parametrized")
    assert found["1.weight_v"].startswith("weight norm")
    assert found["2.weight_orig"].startswith("pruned or spectrally normed")
    assert found["3.weight_orig"].startswith("pruned or spectrally normed")
    assert found["3.weight_mask"].startswith("pruned or spectrally normed")


@pytest.mark.parametrize(
    ("name", "shape", "beside", "reason"),
    [
        ("norm.weight", (1, 264), {"norm.bias": (1, 264)}, "a norm: its bias has the same axes"),
        ("0.weight", (3, 4, 5), {"0.bias": (3, 4, 5)}, "a norm: its bias has the same axes"),
        ("scale.gamma", (4, 1, 6), {"scale.beta": (4, 1, 6)}, "a norm: its bias has the same axes"),
        ("a.scale", (4, 6), {"a.shift": (4, 6)}, "a norm: its bias has the same axes"),
        ("block.rms_norm.weight", (4, 6), {}, "a norm, by its name"),
        ("ln_1.weight", (1, 6, 1, 1), {}, "a norm, by its name"),
        ("attn.pos_bias_u", (4, 6), {}, "bias"),
        ("attn.in_proj_bias", (3, 6), {}, "bias"),
    ],
)
def test_what_belongs_to_a_norm_is_no_weight_however_many_axes_it_has(
    name: str, shape: tuple[int, ...], beside: dict[str, tuple[int, ...]], reason: str
) -> None:
    state = {key: torch.ones(extents) for key, extents in {name: shape, **beside, "fc.weight": (3, 2)}.items()}
    assert list(weights(state)) == ["fc"]
    assert reasons(state)[name] == reason
    assert len(reasons(state)) == 1 + len(beside)


def test_a_layer_whose_bias_has_other_axes_is_a_weight() -> None:
    state = {"a.weight": torch.ones(5, 5), "a.bias": torch.ones(5), "norm1.proj.weight": torch.ones(2, 3)}
    assert list(weights(state)) == ["a", "norm1.proj"]


#: Names under which models of vision, language and speech keep what is no layer's weight.
ASIDE = {
    "cls_token": (1, 1, 6),
    "class_token": (1, 1, 6),
    "dist_token": (1, 1, 6),
    "pos_embed": (1, 9, 6),
    "encoder.pos_embedding": (1, 9, 6),
    "visual.class_embedding": (1, 6),
    "visual.positional_embedding": (9, 6),
    "bert.embeddings.position_embeddings.weight": (9, 6),
    "transformer.wpe.weight": (9, 6),
    "mask_token": (1, 6),
    "layers.0.attn.relative_position_bias_table": (9, 2),
    "blocks.0.attn.rel_pos_h": (9, 6),
    "latents": (4, 6),
    "block.0.SelfAttention.relative_attention_bias.weight": (9, 2),
    "query_embed.weight": (9, 6),
    "absolute_pos_embed": (1, 6, 3, 3),
    "encoder.embed_positions.weight": (9, 6),
    "query_tokens": (1, 4, 6),
    "attn.attention_biases": (2, 9),
    "decoder_pos_embed": (1, 9, 6),
    "image_encoder.reg_tokens": (1, 4, 6),
    "pos_embeds.0": (1, 9, 6),
    "prompt_embeddings": (4, 6),
    "mixer.A_log": (6, 4),
    "time_embed": (1, 3, 6),
}


def test_tokens_positions_and_tables_of_a_file_are_no_layers() -> None:
    state = {name: torch.ones(shape) for name, shape in ASIDE.items()}
    layer = {
        "mixer.in_proj.weight": (6, 6),
        "pos_proj.weight": (6, 6),
        "wte.weight": (9, 6),
        "attn.in_proj_weight": (9, 6),
    }
    layer |= {
        "class_embed.weight": (9, 6),
        "experts.gate_up_proj": (2, 6, 4),
        "head.weight": (1, 6, 1),
    }
    state |= {name: torch.ones(shape) for name, shape in layer.items()}
    state["class_embed.bias"] = torch.ones(9)  # a table has no bias
    found = {stored.name: stored.aside for stored in open_checkpoint(state).weights}
    assert [name for name in ASIDE if not found[name]] == []
    assert [name for name in layer if found[name]] == []


def test_parameters_of_a_module_that_has_layers_inside_are_no_layers() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.table = nn.Linear(6, 18), nn.Parameter(torch.ones(9, 2))
            self.text_projection = nn.Parameter(torch.ones(6, 4))

    class Custom(nn.Module):  # a layer of its own kind
        def __init__(self) -> None:
            super().__init__()
            self.u, self.act = nn.Parameter(torch.ones(4, 6)), nn.ReLU()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.attn, self.custom = nn.Parameter(torch.ones(1, 1, 6)), Attention(), Custom()
            self.positions = nn.Parameter(torch.ones(9, 6))
            self.words, self.wpe = nn.Embedding(20, 6), nn.Embedding(9, 6)
            self.pos_embed, self.lstm = nn.Linear(4, 6, bias=False), nn.LSTM(6, 4)
            self.attention = nn.MultiheadAttention(6, 2)

    for source in (Net(), Net().state_dict()):
        aside = {stored.name for stored in open_checkpoint(source).weights if stored.aside}
        linear = {"pos_embed.weight"} if isinstance(source, dict) else set()  # without a bias a file cannot tell
        assert aside == {"token", "positions", "attn.table", "wpe.weight"} | linear


class Conv1D(nn.Module):
    """transformers' layer of this name: y = x W + b, with W (in, out)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.weight, self.bias = nf, nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


def block() -> nn.ModuleDict:
    """The layers of a GPT-2 of one block."""
    attn = nn.ModuleDict({"c_attn": Conv1D(18, 6), "c_proj": Conv1D(6, 6)})
    mlp = nn.ModuleDict({"c_fc": Conv1D(24, 6), "c_proj": Conv1D(6, 24)})
    inner = nn.ModuleDict({"wte": nn.Embedding(20, 6), "wpe": nn.Embedding(9, 6), "attn": attn, "mlp": mlp})
    return inner.update({"head": nn.Linear(6, 3), "square": nn.Linear(6, 6)}) or inner


def test_what_is_stored_in_out_is_known_by_its_class_and_in_a_file_by_its_bias_and_its_name() -> None:
    expected = {"wte": True, "wpe": True, "attn.c_attn": True, "attn.c_proj": True, "mlp.c_fc": True}
    expected |= {"mlp.c_proj": True, "head": False, "square": False}
    model = block()
    for source in (model, model.state_dict()):
        found = weights(source)
        assert {name: stored.inputs_first for name, stored in found.items()} == expected
        assert found["mlp.c_fc"].shape == (6, 24)
    guessed = {name for name, stored in weights(model.state_dict()).items() if stored.guessed and stored.inputs_first}
    assert guessed == {"wte", "wpe", "attn.c_proj"}  # a square matrix: its sisters' biases and its name


def test_linear_layers_under_the_names_of_conv1d_stay_out_in() -> None:
    names = {"c_attn": nn.Linear(6, 18), "c_proj": nn.Linear(6, 6), "c_fc": nn.Linear(6, 24)}
    assert not any(stored.inputs_first for stored in weights(nn.ModuleDict(names).state_dict()).values())


def test_a_configuration_says_what_no_bias_does(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"h.0.c_attn.weight": torch.ones(6, 18)}, tmp_path / "model.safetensors")
    assert not weights(tmp_path)["h.0.c_attn"].inputs_first
    for model_type, first in (("gpt2", True), ("imagegpt", True), ("gpt_bigcode", False)):
        (tmp_path / "config.json").write_text(f'{{"model_type": "{model_type}"}}')
        assert weights(tmp_path)["h.0.c_attn"].inputs_first is first


def test_a_transposed_convolution_of_a_file_is_known_by_its_bias() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.Conv2d(6, 4, 3), nn.Conv2d(4, 4, 3))
    assert [stored.inputs_first for stored in weights(model.state_dict()).values()] == [True, False, False]


# ---- Packed integers ----


def packed(**tensors: tuple[tuple[int, ...], torch.dtype]) -> dict[str, torch.Tensor]:
    """A layer q of quantised tensors, beside 10 plain parameters."""
    made = {name.replace("__", "."): torch.zeros(shape).to(dtype) for name, (shape, dtype) in tensors.items()}
    return {"head.weight": torch.ones(5, 2), **{f"q.{name}": value for name, value in made.items()}}


I32, F16, F32, U8, I8 = torch.int32, torch.float16, torch.float32, torch.uint8, torch.int8


@pytest.mark.parametrize(
    ("tensors", "layout", "count"),
    [
        (  # (in bits / 32, out); 3 bits over words
            {"qweight": ((12, 64), I32), "qzeros": ((1, 6), I32), "scales": ((1, 64), F16), "g_idx": ((128,), I32)},
            "GPTQ, 3 bits", 128 * 64,
        ),
        ({"qweight": ((32, 64), I32), "qzeros": ((1, 16), I32), "scales": ((1, 64), F16)}, "GPTQ, 8 bits", 128 * 64),
        ({"qweight": ((128, 8), I32), "qzeros": ((1, 8), I32), "scales": ((1, 64), F16)}, "AWQ, 4 bits", 128 * 64),
        ({"weight_packed": ((8, 16), I32), "weight_scale": ((8, 1), F16)}, "pack-quantized, taken as 4 bits", 8 * 128),
        ({"weight_packed": ((64, 64), U8), "weight_scale": ((64, 4), U8)}, "two of 4 bits a byte", 64 * 128),
        ({"weight": ((4096, 1), U8), "weight__absmax": ((128,), F32), "weight__quant_map": ((16,), F32),
          "weight__quant_state__bitsandbytes__nf4": ((90,), U8)}, "bitsandbytes, 4 bits", 8192),
        ({"weight": ((64, 128), I8), "SCB": ((64,), F32)}, "bitsandbytes, int8", 64 * 128),
        ({"weight": ((64, 128), torch.float8_e4m3fn), "weight_scale_inv": ((1, 1), F32)}, "fp8", 64 * 128),
        ({"weight": ((64, 64), U8), "weight_scale": ((64, 8), torch.float8_e4m3fn), "weight_scale_2": ((), F32)},
         "NVFP4", 64 * 128),
    ],
)  # fmt: skip
def test_quantised_weights_count_unpacked_and_their_scales_not_at_all(
    tensors: dict[str, Any], layout: str, count: int
) -> None:
    state = packed(**tensors)
    checkpoint = open_checkpoint(state)
    assert [stored.name for stored in checkpoint.weights] == ["head.weight"]
    assert checkpoint.parameters == accounted(checkpoint) == 10 + count
    found = reasons(state)
    assert sum(f"quantised, {layout}: " in reason for reason in found.values()) == 1
    assert set(found) == set(state) - {"head.weight"}


def test_the_bits_of_packed_integers_are_those_of_the_configuration(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(packed(weight_packed=((64, 32), I32), weight_scale=((64, 1), F16)), tmp_path / "model.safetensors")
    groups = {"group_0": {"weights": {"num_bits": 8}}}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {"config_groups": groups}}))
    assert open_checkpoint(tmp_path).parameters == 10 + 64 * 128


def test_packed_integers_of_a_module_count_too() -> None:
    layer = nn.Linear(4, 2)
    quantised = nn.Module()
    for name, value in packed(qweight=((16, 64), I32), qzeros=((1, 8), I32), scales=((1, 64), F16)).items():
        if name.startswith("q."):
            quantised.register_buffer(name.removeprefix("q."), value)
    assert open_checkpoint(nn.ModuleDict({"fc": layer, "q": quantised})).parameters == 10 + 128 * 64


@pytest.mark.filterwarnings("ignore")
def test_a_layer_that_torch_has_quantised_counts_and_says_so() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    both = torch.ao.quantization.quantize_dynamic(model, {"2"}, dtype=torch.qint8)
    assert list(weights(both)) == ["0"]
    assert reasons(both)["2.weight"] == "quantised by torch"
    assert open_checkpoint(both).parameters == 8 * 4 + 4 + 4 * 2


@pytest.mark.filterwarnings("ignore")
def test_a_scripted_module_is_known_by_what_it_was_made_from() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(6, 4, 3, groups=2), nn.Linear(3, 3))
    plain, scripted = weights(model).values(), weights(torch.jit.script(model)).values()
    told = [(w.kind, w.shape, w.inputs_first, w.groups) for w in scripted]
    assert told == [(w.kind, w.shape, w.inputs_first, w.groups) for w in plain]


def test_a_tensor_of_more_axes_than_numpy_has_is_skipped() -> None:
    path = [1] * 71
    assert judged(path) == "71 axes: more than 64"


def judged(shape: list[int]) -> str:
    found = tensors.Found("odd.weight", "float32", tuple(shape), 0)
    return judge.judge([found], "", {})[0].reason


# ---- The same elements ----


def test_tied_tensors_are_there_once_and_their_aliases_are_listed() -> None:
    tied = torch.randn(5, 3)
    checkpoint = open_checkpoint(
        {"head.weight": tied, "emb.weight": tied.detach(), "t": tied.t(), "other": torch.ones(5, 3)}
    )
    assert [(weight.layer, weight.aliases) for weight in checkpoint.weights] == [("head", ("emb", "t")), ("other", ())]
    assert checkpoint.parameters == 30
    assert checkpoint.nbytes == 120


def test_views_of_one_storage_are_different_tensors() -> None:
    base = torch.randn(6, 4)
    found = weights({"q": base[:2], "k": base[2:4], "v": base[4:], "columns": base[:, :2]})
    assert list(found) == ["q", "k", "v", "columns"]
    assert all(not weight.aliases for weight in found.values())


def test_a_matrix_that_is_also_stored_flat_is_measured_as_a_matrix() -> None:
    flat = torch.randn(12)
    checkpoint = open_checkpoint({"flat": flat, "w": flat.view(3, 4)})
    assert [(weight.layer, weight.aliases) for weight in checkpoint.weights] == [("w", ("flat",))]
    assert not checkpoint.skipped


def test_the_elements_that_strides_reach_do_not_depend_on_the_order_of_axes() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert tensors.layout(x.shape, x.stride()) == ((1, 120),)
    for other in (x.permute(3, 1, 0, 2), x.reshape(6, 20), x[None], x.flatten()):
        assert tensors.layout(other.shape, other.stride()) == ((1, 120),)
    assert tensors.layout((4, 3), (0, 1)) != tensors.layout((4, 3), (3, 1))
    assert tensors.layout((2, 3), (8, 1)) == tensors.layout((3, 2), (1, 8))


# ---- Values ----


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_values_are_those_of_the_tensor_bit_for_bit_and_not_copied(dtype: torch.dtype) -> None:
    x = torch.randn(3, 4).to(dtype)
    checkpoint = open_checkpoint({"w": x})
    view = checkpoint.read(checkpoint.weights[0])
    assert view.dtype == str(dtype).removeprefix("torch.")
    assert view.array.ctypes.data == x.data_ptr()
    assert checkpoint.largest == checkpoint.nbytes == x.nbytes


def test_numpy_arrays_are_weights_too() -> None:
    w = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(values({"a.weight": w, "b": w.T, "c": w.astype(">f4")}, "c"), w)
    assert weights({"a.weight": w, "b": w.T})["a"].aliases == ("b",)
    assert reasons({"w": w, "ids": np.ones((2, 2), np.int64)}) == {"ids": "int64: not a weight"}


def test_a_masked_array_is_skipped() -> None:
    assert reasons({"w": np.ones((2, 2)), "m": np.ma.masked_array(np.ones((2, 2)))}) == {"m": "a masked array"}


def test_what_is_read_must_be_of_this_checkpoint_and_the_checkpoint_open() -> None:
    with open_checkpoint({"w": torch.ones(2, 2)}) as checkpoint:
        stored = checkpoint.weights[0]
        with pytest.raises(ValueError, match="no weight of this checkpoint"):
            checkpoint.read(weights({"v": torch.ones(2, 2)})["v"])
    with pytest.raises(ValueError, match="closed"):
        checkpoint.read(stored)


def test_memory_that_reading_takes_is_checked_before_and_names_the_tensor() -> None:
    expanded = torch.ones(1).expand(1 << 20, 1 << 20)
    with pytest.raises(LimitExceeded, match=r"tensor 'w' of shape \(1048576, 1048576\) takes 4398046511104 bytes"):
        open_checkpoint({"w": expanded})
    assert open_checkpoint({"w": torch.ones(100, 100)}, memory=1).largest == 40000  # a view takes nothing


# ---- Modules ----


def test_a_module_says_what_its_tensors_are_for() -> None:
    model = nn.Sequential(
        nn.Embedding(7, 4), nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(6, 4, 3, groups=2), nn.LayerNorm((3, 4))
    )
    found = weights(model)
    assert [(w.kind, w.shape, w.inputs_first, w.groups) for w in found.values()] == [
        ("Embedding", (7, 4), True, 1),
        ("Conv2d", (6, 2, 3, 3), False, 2),
        ("ConvTranspose2d", (6, 2, 3, 3), True, 2),
    ]
    assert reasons(model)["3.weight"] == "norm"
    checkpoint = open_checkpoint(model)
    assert checkpoint.source == "Sequential"
    assert checkpoint.parameters == accounted(checkpoint) == sum(p.numel() for p in model.parameters())


def test_recurrent_and_attention_matrices_keep_their_whole_name() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4), "attn": nn.MultiheadAttention(4, 2)})
    assert list(weights(model)) == ["rnn.weight_ih_l0", "rnn.weight_hh_l0", "attn.in_proj_weight", "attn.out_proj"]


def test_buffers_are_neither_weights_nor_parameters() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model.register_buffer("mask", torch.ones(5, 5))
    checkpoint = open_checkpoint(model)
    assert [skip for skip in checkpoint.skipped if skip.name == "mask"] == [Skip("mask", "buffer", 0)]
    assert checkpoint.parameters == 3 * 4 + 4 + 4 + 4
    assert open_checkpoint({k: v for k, v in model.state_dict().items() if k != "mask"}).parameters == 3 * 4 + 4 + 4 + 4


def test_shared_parameters_and_shared_modules_are_there_once() -> None:
    model = nn.ModuleDict({"emb": nn.Embedding(5, 3), "fc": nn.Linear(3, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["emb"].weight
    model["again"] = model["fc"]
    checkpoint = open_checkpoint(model)
    assert [(w.layer, w.aliases) for w in checkpoint.weights] == [("emb", ("head",)), ("fc", ("again",))]
    assert checkpoint.parameters == sum(p.numel() for p in model.parameters())
    # The keys of its state_dict are the same tensors.
    assert [w.layer for w in open_checkpoint(model.state_dict()).weights] == ["emb", "fc"]
    assert open_checkpoint(model.state_dict()).parameters == checkpoint.parameters


def test_data_parallel_and_compile_wrappers_of_a_module_are_taken_off() -> None:
    inner = nn.Sequential(nn.Linear(3, 2))
    wrapped = nn.DataParallel(inner)
    checkpoint = open_checkpoint(wrapped)
    assert [w.layer for w in checkpoint.weights] == ["0"]
    assert checkpoint.wrappers == ("DataParallel",)
    assert checkpoint.fingerprint == layers.fingerprint(inner)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "wrap",
    [
        parametrizations.weight_norm,
        weight_norm,
        parametrizations.spectral_norm,
        spectral_norm,
        parametrizations.orthogonal,
    ],
)
def test_a_weight_that_its_module_makes_is_the_one_it_uses(wrap: Any) -> None:
    torch.manual_seed(3)
    layer = wrap(nn.Linear(4, 4, bias=False))
    model = nn.Sequential(layer).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    found = values(model, "0")
    assert weights(model)["0"].kind == "Linear"
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    used = model.eval()(torch.eye(4)).T.detach().numpy()
    np.testing.assert_allclose(found, used, rtol=0, atol=4 * np.finfo(np.float32).eps)
    checkpoint = open_checkpoint(model)
    assert {skip.reason for skip in checkpoint.skipped} <= {"composed into 0.weight", "buffer"}
    assert checkpoint.parameters == accounted(checkpoint) == 16


def test_a_pruned_weight_is_the_one_that_is_left() -> None:
    layer = nn.Linear(4, 4)
    prune.random_unstructured(layer, "weight", 3)
    prune.l1_unstructured(layer, "weight", 4)  # a container of two
    assert np.array_equal(values(layer, "(root)"), layer.weight.detach().numpy())
    assert np.count_nonzero(values(layer, "(root)")) == 9


def test_a_parametrization_that_fails_is_a_reason() -> None:
    class Broken(nn.Module):
        broken = False

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.broken:
                raise RuntimeError("not now")
            return x

    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    parametrize.register_parametrization(model[0], "weight", Broken())
    Broken.broken = True
    assert reasons(model)["0.weight"] == "parametrized: its module cannot make it (RuntimeError)"
    assert list(weights(model)) == ["1"]


def test_lazy_and_meta_modules_are_skipped() -> None:
    model = nn.ModuleDict({"lazy": nn.LazyLinear(3), "meta": nn.Linear(3, 3, device="meta"), "fc": nn.Linear(3, 2)})
    assert list(weights(model)) == ["fc"]
    assert reasons(model)["lazy.weight"].startswith("lazy")
    assert reasons(model)["meta.weight"].startswith("meta tensor")


def test_a_model_without_a_weight_has_none() -> None:
    checkpoint = open_checkpoint(nn.ReLU())
    assert (list(checkpoint.weights), checkpoint.nbytes, checkpoint.largest, checkpoint.parameters) == ([], 0, 0, 0)


def test_the_fingerprint_is_of_names_dtypes_and_shapes_and_never_of_values() -> None:
    one = open_checkpoint({"a": torch.zeros(2, 3), "b": torch.zeros(4)}).fingerprint
    assert open_checkpoint({"b": torch.ones(4), "a": torch.ones(2, 3)}).fingerprint == one
    others = [{"a": torch.zeros(3, 2)}, {"c": torch.zeros(2, 3)}, {"a": torch.zeros(2, 3).half()}]
    assert len({one, *(open_checkpoint({"b": torch.zeros(4), **other}).fingerprint for other in others)}) == 4


# ---- weight_view ----


def test_weight_view_takes_what_activations_may_not_be_and_a_view_for_its_tag() -> None:
    from netassay.base import arrays

    for dtype in (torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64):
        x = torch.arange(12).reshape(3, 4).to(dtype).T
        view = arrays.weight_view(x, "f")
        assert view.dtype == str(dtype).removeprefix("torch.")
        assert view.array.dtype.name == arrays.CARRIERS[view.dtype]
        assert view.array.ctypes.data == x.data_ptr()
        assert arrays.weight_view(view, "f").array.ctypes.data == x.data_ptr()
        if dtype not in (torch.bfloat16, torch.float64):
            with pytest.raises(DTypeError, match="f: got dtype"):
                arrays.view(x, "f")
    wrong = (torch.ones(2, dtype=torch.int16), np.ones(2, np.complex64), arrays.View(np.ones(2), "bfloat16"))
    for x in wrong:
        with pytest.raises(DTypeError, match="float8_e5m2, int8 or uint8"):
            arrays.weight_view(x, "f")


def test_a_path_is_text_or_a_path_object(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(2, 3)}, path)
    assert open_checkpoint(path).source == open_checkpoint(str(path)).source == str(path)
    assert math.prod(open_checkpoint(path).weights[0].shape) == 6
