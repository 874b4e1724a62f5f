"""The links of recurrent layers, unrolled over their steps and by gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from netassay.sources.passes.engine import Step
from netassay.sources.passes.strengths.engine import Strengths
from netassay.sources.passes.strengths.links import POWERS
from netassay.sources.passes.strengths.units import Layout
from netassay.sources.passes.strengths.weights import linear
from netassay.sources.passes.sums import Sums, Value, Varies

if TYPE_CHECKING:
    from torch import Tensor, fx

GATED = "gates multiply its states: its weights are dense layers into the gates"
_PACKED = "which steps a sequence has depends on the input"


@dataclass(frozen=True, slots=True, eq=False)
class _Weights:
    """Of one layer in one direction: (G H, I), (G H, state), (G H,) or 0, and (state, H) where states are projected."""

    into: Tensor
    state: Tensor
    bias: Tensor
    projection: Tensor | None = None


def recurrent(engine: Strengths, step: Step) -> Value:
    """lstm, gru, rnn_tanh, rnn_relu: layers and directions, one after the other."""
    import torch

    if "data" in step.arguments:
        return engine.data_dependent_nodes(step, _PACKED)
    entering = step.sums("input")
    if entering is None:
        return engine.data_dependent_nodes(step, "its steps are constant, its states are not")
    first = step.arguments["batch_first"]
    if engine.traced.batch_axes[step.node][0] != (0 if first else 1):
        return engine.unlinked(step, "unknown", "its sequences are not along the batch axis (batch_axis= says which)")

    def time_first(tensor: Tensor) -> Tensor:
        return tensor.transpose(0, 1) if first else tensor

    before = _hidden_before(engine, step)
    x, last = _stacked(engine, step, entering.map(time_first), before)
    out, states = x.map(time_first), Sums(torch.stack(last))
    return (out, states, _cells(engine, step, 2)) if step.op == "lstm" else (out, states)


def _stacked(engine: Strengths, step: Step, x: Sums, before: fx.Node) -> tuple[Sums, list[Tensor]]:
    """Runs layers and directions on x (T, N, I): the states of the last layer, and the last state of each."""
    import torch

    directions = 2 if step.arguments["bidirectional"] else 1
    params: list[fx.Node] = step.arguments["params"]
    several = len(params) // (step.arguments["num_layers"] * directions)
    last: list[Tensor] = []
    for layer in range(step.arguments["num_layers"]):
        both = []
        for direction in range(directions):
            place = layer * directions + direction
            weights = _weights(engine, params[place * several : (place + 1) * several], step.arguments["has_biases"])
            suffix = f"_l{layer}" + ("_reverse" if direction else "")
            start = _state(engine, before, place)
            hidden = _Unrolled(engine, step, suffix, weights, reverse=bool(direction)).run(x, start)
            both.append(hidden.tensor)
            last.append(hidden.tensor[0 if direction else -1])
        x = Sums(torch.cat(both, -1) if len(both) > 1 else both[0])
    return x, last


def cell(engine: Strengths, step: Step) -> Value:
    """One step of them."""
    entering = step.sums("input")
    if entering is None:
        return engine.data_dependent_nodes(step, "its input is constant, its state is not")
    names = [name for name in ("w_ih", "w_hh", "b_ih", "b_hh") if step.get(name) is not None]
    weights = _weights(engine, [step.arguments[name] for name in names], len(names) == 4)
    before = _hidden_before(engine, step)
    sums = engine.read(before)
    start = engine.values(before) if sums is None else sums
    hidden = _Unrolled(engine, step, "", weights, steps=False).run(entering.map(lambda t: t.unsqueeze(0)), start)
    out = hidden.map(lambda tensor: tensor[0])
    return (out, _cells(engine, step, 1)) if step.op == "lstm_cell" else out


def _hidden_before(engine: Strengths, step: Step) -> fx.Node:
    """The hidden states that a layer begins with; a gated layer is listed, and its cells are flagged."""
    kind, states = step.op.removesuffix("_cell"), step.arguments["hx"]
    if kind == "lstm" and (cells := engine.read(states[1])) is not None:
        engine.flag(cells, "data_dependent_out")
    if kind in ("lstm", "gru"):
        engine.enlist(step, "data_dependent", GATED)
    before: fx.Node = states[0] if kind == "lstm" else states
    return before


def _weights(engine: Strengths, params: list[fx.Node], biases: bool) -> _Weights:
    import torch

    values = [engine.values(node) for node in params]
    bias = values[2] + values[3] if biases else torch.zeros((), dtype=torch.float64, device="cpu")
    projection = values[-1] if len(values) in (3, 5) else None
    return _Weights(values[0], values[1], bias, projection)


def _state(engine: Strengths, node: fx.Node, place: int) -> Sums | Tensor:
    """What one layer and direction begins with."""
    sums = engine.read(node)
    return engine.values(node)[place] if sums is None else sums.map(lambda tensor: tensor[place])


def _cells(engine: Strengths, step: Step, k: int) -> Sums | Varies:
    """The cells of the last step, where something reads them."""
    if not step.uses(k):
        return Varies("a by-product")
    shape = step.call.shapes[k]
    flags = ("gated", "data_dependent_in")
    layout = engine.layout(step.node, k)
    sums, _ = engine.nodes(f"{step.call.name}:cells", step.call.call, step.op, shape, layout, flags=flags)
    return sums


class _Unrolled:
    """One layer in one direction: x (T, N, I) -> its states (T, N, H), as nodes.

    Every step is a dense layer of the gates, a_t = W_ih x_t + W_hh h_(t-1) + b_ih + b_hh, and of LSTM and GRU a state
    h_t that depends on products of the gates. Without gates h_t is a function of a_t alone: the same node.
    """

    def __init__(
        self,
        engine: Strengths,
        step: Step,
        suffix: str,
        weights: _Weights,
        *,
        reverse: bool = False,
        steps: bool = True,
    ) -> None:
        self._engine, self._step, self._suffix, self._weights = engine, step, suffix, weights
        self._reverse, self._steps = reverse, steps

    def run(self, x: Sums, start: Sums | Tensor) -> Sums:
        """`start`: the state before the first step, (N, H)."""
        engine, weights = self._engine, self._weights
        incoming = self._into_gates(x, start)
        if self._step.op.startswith("rnn"):
            states = self._nodes("hidden", x, incoming)
        else:
            self._nodes("gates", x, incoming, flags=("gated", "data_dependent_out"))
            width = (weights.state if weights.projection is None else weights.projection).shape[1]
            what = "hidden" if weights.projection is None else "outputs"
            states = self._nodes(what, x, width=width, flags=("gated", "data_dependent_in"))
            if weights.projection is not None:
                links = linear(states, weights.projection)
                into, out = zip(*map(links.sums, POWERS), strict=True)
                engine.add_out(states, out)
                states = self._nodes("hidden", x, into)
        self._recur(states)
        return states

    def _into_gates(self, x: Sums, start: Sums | Tensor) -> list[Tensor]:
        """W_ih 1 + W_hh 1 + b at every step, (T, N, G H), and the links out of x and of a start with nodes."""
        import torch

        engine, weights = self._engine, self._weights
        from_x = linear(x, weights.into)
        into, out = zip(*map(from_x.sums, POWERS), strict=True)
        first = -1 if self._reverse else 0
        total = []
        for power, gates in zip(POWERS, into, strict=True):
            gates = gates + power(weights.state).sum(1)
            bias = power(weights.bias).expand(gates.shape).clone()
            if isinstance(start, torch.Tensor):
                gates[first] = gates[first] - power(weights.state).sum(1)
                bias[first] = power(weights.bias + start @ weights.state.T)
            total.append(gates + bias)
        engine.add_out(x, out)
        if not isinstance(start, torch.Tensor):
            engine.add_out(start, [power(weights.state).sum(0).expand(start.tensor.shape) for power in POWERS])
        return total

    def _recur(self, states: Sums) -> None:
        """W_hh^T 1 out of the state of every step but the last."""
        links = []
        for power in POWERS:
            back = power(self._weights.state).sum(0).expand(states.tensor.shape).clone()
            back[0 if self._reverse else -1] = 0
            links.append(back)
        if self._steps and states.tensor.shape[0] > 1:
            self._engine.add_out(states, links)

    def _nodes(
        self, what: str, x: Sums, incoming: Sequence[Tensor] | None = None, *, width: int = 0, flags: Sequence[str] = ()
    ) -> Sums:
        """(T, N, width), or of a single step (1, N, width) of nodes (N, width)."""
        steps, batch, _ = x.tensor.shape
        width = int(incoming[0].shape[-1]) if incoming is not None else width
        layout = Layout.along(1, batch, [x.tensor])
        shape: tuple[int, ...] = (steps, batch, width)
        if not self._steps:
            layout, shape = Layout(0, layout.labels), (batch, width)
            incoming = None if incoming is None else [total[0] for total in incoming]
        call = self._step.call
        sums, units = self._engine.nodes(
            f"{call.name}:{what}{self._suffix}", call.call, call.op, shape, layout, flags=flags
        )
        units.incoming = None if incoming is None else [layout.sample(total) for total in incoming]
        return sums if self._steps else sums.map(lambda tensor: tensor.unsqueeze(0))
