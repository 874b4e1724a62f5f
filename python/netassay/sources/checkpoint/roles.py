"""What a tensor is for, where its module does not say: by its name, its shape and what stands beside it.

The lists of this file are the only ones, and docs/network.md and docs/checkpoints.md repeat what they mean:

- A norm is no weight, however many axes it has.
- Tokens, position embeddings, tables of relative positions, and other parameters of a module that has layers inside
  are parameters of the network and no layer's weight. A word embedding is a layer: its units receive from the words.
- A weight is stored (out, in, ...) or (in, out, ...).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from netassay.sources.checkpoint.tensors import Found

#: Last part of the name, before ".weight" or a number in a list, of what is looked up or added and is no layer's.
ASIDE = re.compile(
    r"(?:cls|class|dist|distill(?:ation)?|reg(?:ister)?|mask|query|storage|iou|sep|pad|bos|eos|null|global|prompt)"
    r"_?(?:token|tok|emb|embed|embedding)s?"
    r"|(?:learned_|learnable_|absolute_|abs_|temporal_|spatial_|relative_|rel_|time_|text_|decoder_|encoder_|image_)*"
    r"pos(?:ition(?:al|s)?)?_?(?:emb|embed|embedding|embeddings|enc|encoding|encodings|table|ids_table)s?"
    r"(?:_(?:[xyzhwtd]|win|window|spatial|temporal|time|class|cls|\d+))?|pe"
    r"|embed_positions|positions_embed|wpe|ape|time_embed|temporal_embed(?:ding)?s?"
    r"|rel(?:ative)?_?pos(?:ition)?_?(?:h|w|d|k|v|bias|bias_table|emb(?:eddings?)?|embeddings_\w+)"
    r"|relative_(?:attention_bias|position_bias_table)|attention_biases|bias_table|(?:rpb|rpe)(?:_table)?"
    r"|query_embeddings?|query_embed|latents?|latent_(?:query|queries|tokens?)|queries|soft_prompts?|prompt_embeddings?"
    r"|not_a_point_embed|no_mask_embed|tokens?",
    re.IGNORECASE,
)
#: Names that say a weight wherever they are.
_WEIGHT = re.compile(r".*(?:weight|kernel|proj|matrix).*|[wW](?:_?\w{1,3})?")
#: Last part but one of the name of an embedding's weight, (V, D): D units that receive from V.
_EMBEDDING = re.compile(
    r"wte|wpe|shared|tokens_embed|positions_embed|embed_(?:tokens|positions|in)|tok_embeddings|(?:src_|tgt_)?embed"
    r"|(?:word_|token_|token_type_|position_|segment_|tok_|pos_|item_|user_)?(?:embed|embedding|embeddings|emb)",
    re.IGNORECASE,
)
#: transformers' Conv1D, by config.json and by the names that these models give it.
CONV1D_MODELS = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
_CONV1D = re.compile(r"c_attn|c_proj|c_fc|q_attn")
#: Last part but one of the name of a norm's weight.
_NORM = re.compile(r"(?:.*[_a-z])?norm(?:_?\d+)?|ln(?:_?(?:\d+|f|pre|post|in|out|[qkvx]))?", re.IGNORECASE)
_PARTNERS = {"weight": ("bias",), "gamma": ("beta",), "scale": ("bias", "shift", "offset")}
_OFFSETS = {"beta": "gamma", "shift": "scale", "offset": "scale"}


class Roles:
    """What each of the tensors of one source is for."""

    def __init__(self, tensors: Sequence[Found], config: Mapping[str, Any]) -> None:
        self._shapes = {found.name: found.shape for found in tensors}
        self._containers = _containers(found.name for found in tensors if found.counts)
        stored = {found.name: self._by_bias(found) for found in tensors if _conv1d(found)}
        said = config.get("model_type") in CONV1D_MODELS or True in stored.values()
        self._conv1d = said and False not in stored.values()

    def norm(self, found: Found) -> str:
        """Why a tensor of several axes belongs to a norm, or ""."""
        if found.layer:
            return ""
        stem, _, leaf = found.name.rpartition(".")
        beside = [*_PARTNERS.get(leaf, ()), *([_OFFSETS[leaf]] if leaf in _OFFSETS else [])]
        if any(self._shapes.get(f"{stem}.{other}".lstrip(".")) == found.shape for other in beside):
            return "a norm: its bias has the same axes"
        if leaf in ("weight", "gamma") and _NORM.fullmatch(stem.rpartition(".")[2]):
            return "a norm, by its name"
        return ""

    def aside(self, found: Found) -> bool:
        """Whether a matrix is a parameter of the network and no layer's weight."""
        if found.layer or self._bias(found) is not None:
            return False
        parent, _, leaf = found.name.rpartition(".")
        last = parent.rpartition(".")[2]
        if ASIDE.fullmatch(last if leaf == "weight" or leaf.isdigit() else leaf):
            return True
        if leaf.isdigit() or _WEIGHT.fullmatch(leaf):
            return False
        return parent in self._containers or (len(found.shape) > 2 and found.shape[0] == 1)

    def inputs_first(self, found: Found) -> tuple[bool, str]:
        """Whether a weight is stored (in, out, ...), and what says so where it is no module: "bias" or "name"."""
        if found.inputs_first is not None:
            return found.inputs_first, ""
        by_bias = self._by_bias(found)
        if by_bias is not None:
            return by_bias, "bias"
        if len(found.shape) != 2 or not found.name.endswith(".weight"):
            return False, ""
        if _conv1d(found) and not found.kind:
            return self._conv1d, "name"
        last = found.name.removesuffix(".weight").rpartition(".")[2]
        named = not found.kind and self._bias(found) is None and _EMBEDDING.fullmatch(last) is not None
        return named, "name" if named else ""

    def _bias(self, found: Found) -> tuple[int, ...] | None:
        """The shape of the bias that a weight has."""
        stem, _, leaf = found.name.rpartition(".")
        return self._shapes.get(f"{stem}.bias".lstrip(".")) if leaf in ("weight", "kernel") else None

    def _by_bias(self, found: Found) -> bool | None:
        """What the length of its bias, one number an output, says of a weight; None where it says nothing."""
        bias, shape = self._bias(found), found.shape
        if bias is None or len(bias) != 1 or not 2 <= len(shape) <= 5 or shape[0] == shape[1]:
            return None
        return {shape[0]: False, shape[1]: True}.get(bias[0])


def _conv1d(found: Found) -> bool:
    parent, _, leaf = found.name.rpartition(".")
    return leaf == "weight" and len(found.shape) == 2 and _CONV1D.fullmatch(parent.rpartition(".")[2]) is not None


def _containers(names: Any) -> frozenset[str]:
    """Modules that have modules with parameters inside, by what names say."""
    several: set[str] = set()
    for name in names:
        if ".parametrizations." in f".{name}":
            continue
        stem = name.rpartition(".")[0]
        while stem:
            stem = stem.rpartition(".")[0]
            if stem in several:
                break
            several.add(stem)
    return frozenset(several)
