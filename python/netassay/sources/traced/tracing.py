"""A run of a model as a graph of operations: by torch.export, by torch.fx before it, or recorded on real values.

The only module that knows torch.export and torch.fx.
"""

from __future__ import annotations

import inspect
import io
import logging
import operator
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from netassay.base.errors import UnsupportedLayout
from netassay.sources import layers as _layers
from netassay.sources.traced.nodes import tensors_of

if TYPE_CHECKING:
    from torch import Tensor, fx, nn
    from torch.export import ExportedProgram

#: A module on the way to an operation: its path, and what tells its calls apart.
Site = tuple[str, str]

_one_at_a_time = threading.RLock()


def alone() -> threading.RLock:
    """What to hold while runs are followed: torch's tracers, its log, standard error and a model's mode are the
    process's, and two threads that quiet them would leave them quiet."""
    return _one_at_a_time


def _unlock() -> None:
    """A child of fork has none of the threads that may hold it."""
    global _one_at_a_time
    _one_at_a_time = threading.RLock()


os.register_at_fork(after_in_child=_unlock)


@dataclass(frozen=True, slots=True)
class Run:
    """The operations of one run, in evaluation mode.

    Attributes:
        graph: of torch's operators, before any decomposition; each node's meta["val"] has shapes.
        constants: node -> parameter, buffer or constant that it stands for.
        inputs: node of each input -> name of the argument.
        outputs: nodes of the tensors that the model returns.
        sites: node -> innermost module that ran it.
        tracer: what followed the run.
        input_specific: whether the values of the input may have decided which operations ran.
    """

    graph: fx.Graph
    constants: Mapping[fx.Node, Tensor]
    inputs: Mapping[fx.Node, str]
    outputs: tuple[fx.Node, ...]
    sites: Mapping[fx.Node, Site]
    tracer: str
    input_specific: bool = False


def follow(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], function: str) -> Run:
    """Follows one run: torch.export, else torch.export of what torch.fx makes of the model, else a recorded run.

    Nothing of the model is changed; hooks run. Only a recorded run computes, and only where the model has values. To be
    called while `alone` is held.

    Raises:
        UnsupportedLayout: none of them can; says what torch.export said, and what the run itself. Or the model has lazy
        parameters, which a run would draw.
    """
    if lazy := [name for name, parameter in model.named_parameters() if _layers.lazy(parameter)]:
        raise UnsupportedLayout(
            f"{function}: got the lazy parameter {lazy[0]!r}, expected shapes: run the model once on an input first"
        )
    with evaluating(model), _quiet():
        try:
            return _exported(model, args, kwargs)
        except Exception as error:
            reason = error
        try:
            import torch

            return _exported(torch.fx.symbolic_trace(model), args, kwargs, "torch.fx")
        except Exception:
            pass
        name = type(model).__name__
        if any(parameter.is_meta for parameter in (*model.parameters(), *model.buffers())):
            raise UnsupportedLayout(
                f"{function}: got {name}, which torch.export cannot follow without values ({_first(reason)});"
                " expected a model with values, or one whose operations do not depend on them"
            ) from reason
        try:
            return _recorded(model, args, kwargs)
        except Exception as error:
            other = "" if _first(reason) == _first(error) else f" (torch.export: {_first(reason)})"
            raise UnsupportedLayout(
                f"{function}: {name} cannot be followed on this input: {_first(error)}{other}"
            ) from error


def _first(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode; then each has the attributes that it had, whatever its forward has set."""
    held = [kept for module in model.modules() for kept in (vars(module), module._buffers) if isinstance(kept, dict)]
    before = [(kept, dict(kept)) for kept in held]
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:  # a scripted one keeps its mode elsewhere
            module.training = training
        for kept, values in before:
            for name in kept.keys() - values.keys():
                del kept[name]
            kept.update(values)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch tells its log, its warnings and standard error what it will raise, and of attributes that modules set."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)


def _exported(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], tracer: str = "torch.export") -> Run:
    import torch

    # under no_grad a part that runs without gradients is like any other
    with torch.no_grad(), _returning_tensors(model):
        program = torch.export.export(model, tuple(args), dict(kwargs), strict=False)
    return _run_of(program, model, tracer)


def _run_of(program: ExportedProgram, model: nn.Module, tracer: str) -> Run:
    """Describes what torch.export has made of a model."""
    import torch
    from torch.export.graph_signature import OutputKind

    graph, copies = _inlined(program.graph_module)
    for node in graph.nodes:
        if any(isinstance(n, torch.SymInt) for value in tensors_of(node) for n in value.shape):
            raise ValueError(f"the shape of {node.name} depends on values")
    nodes = {node.name: copies[node] for node in program.graph.nodes if node in copies}
    constants, inputs = _entering(program, model, nodes)
    outputs = [
        nodes[spec.arg.name]
        for spec in program.graph_signature.output_specs
        if spec.kind is OutputKind.USER_OUTPUT and getattr(spec.arg, "name", None) in nodes
    ]
    return Run(graph, constants, inputs, tuple(outputs), _innermost_modules(graph), tracer)


def _entering(
    program: ExportedProgram, model: nn.Module, nodes: Mapping[str, fx.Node]
) -> tuple[dict[fx.Node, Tensor], dict[fx.Node, str]]:
    """Node -> the parameter, buffer or constant that it stands for; node of each input -> its name."""
    import torch
    from torch.export.graph_signature import InputKind

    held: dict[str, Any] = {**dict(model.named_parameters(remove_duplicate=False)), **program.constants}
    held = {**dict(model.named_buffers(remove_duplicate=False)), **held}
    constants: dict[fx.Node, Tensor] = {}
    inputs: dict[fx.Node, str] = {}
    for spec in program.graph_signature.input_specs:
        node = nodes.get(getattr(spec.arg, "name", ""))
        if node is None:
            continue
        if spec.kind is InputKind.USER_INPUT:
            inputs[node] = node.name
        elif isinstance(held.get(spec.target or ""), torch.Tensor):
            constants[node] = held[spec.target or ""]
    return constants, inputs


def _innermost_modules(graph: fx.Graph) -> dict[fx.Node, Site]:
    sites = {}
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack") or {}
        if stack:
            key, (path, _) = next(reversed(stack.items()))
            sites[node] = (path, key)
    return sites


@contextmanager
def _returning_tensors(model: nn.Module) -> Iterator[None]:
    """Calls of the model return the tensors of what they return: torch.export takes no class that it does not know."""
    hook = model.register_forward_hook(lambda module, args, output: list(_tensors_in(output)))
    try:
        yield
    finally:
        hook.remove()


def _tensors_in(output: Any) -> Iterator[Tensor]:
    """The tensors that a model returns, in their order, whatever holds them."""
    import torch
    from torch.utils import _pytree as pytree

    for leaf in pytree.tree_leaves(output):
        if isinstance(leaf, torch.Tensor):
            yield leaf
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            yield from _tensors_in([getattr(leaf, field.name) for field in fields(leaf)])
        elif isinstance(leaf, (Mapping, list, tuple)):  # of a class of its own
            yield from _tensors_in([*(leaf.values() if isinstance(leaf, Mapping) else leaf)])


def _inlined(module: fx.GraphModule) -> tuple[fx.Graph, Mapping[fx.Node, Any]]:
    """A copy of a graph in which what runs under a setting (autocast, gradients) stands where it runs.

    Returns the copy, and node -> its copy; of a call that was opened, what it returned.
    """
    from torch import fx

    graph = fx.Graph()

    def copied(inner: fx.GraphModule, copies: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
        for node in inner.graph.nodes:
            if node in copies:
                continue
            if node.op == "output":
                copies[node] = fx.map_arg(node.args[0], copies.__getitem__)
            elif node.target is operator.getitem and not isinstance(copies[node.args[0]], fx.Node):
                copies[node] = copies[node.args[0]][node.args[1]]
            elif str(getattr(node.target, "__name__", "")).startswith("wrap_with_"):
                place = next(
                    i for i, value in enumerate(node.args) if isinstance(value, fx.Node) and value.op == "get_attr"
                )
                body = getattr(inner, node.args[place].target)
                given = [fx.map_arg(value, copies.__getitem__) for value in node.args[place + 1 :]]
                entering = [entry for entry in body.graph.nodes if entry.op == "placeholder"]
                inside = copied(body, dict(zip(entering, given, strict=True)))
                copies[node] = next(inside[end] for end in body.graph.nodes if end.op == "output")
            else:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        return copies

    copies = copied(module, {})
    return graph, copies


def _recorded(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Run:
    """The operations of a run on real values, as the modules that run them come and go."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.utils import _pytree as pytree

    leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

    def run(*tensors: Tensor) -> Any:
        given = list(leaves)
        for place, tensor in zip(places, tensors, strict=True):
            given[place] = tensor
        positional, named = pytree.tree_unflatten(given, spec)
        return list(_tensors_in(model(*positional, **named)))

    with ExitStack() as stack:
        stack.enter_context(_as_it_was(model))
        stack.enter_context(torch.random.fork_rng(devices=[]))
        record = stack.enter_context(_module_calls(model))
        # private, and the only way past a branch on a value: the value decides, which is what "recorded" means
        make: Callable[..., Any] = make_fx(
            run, tracing_mode="real", pre_dispatch=True, _error_on_data_dependent_ops=False
        )
        module = make(*(leaves[place] for place in places))
    nodes = list(module.graph.nodes)
    held = {node: getattr(module, node.target) for node in nodes if node.op == "get_attr"}
    # packed weights are no tensors
    constants = {node: value for node, value in held.items() if isinstance(value, torch.Tensor)}
    entering = [node for node in nodes if node.op == "placeholder"]
    names = _argument_names(model, args, kwargs)
    inputs = dict(zip(entering, (names[place] for place in places), strict=True))
    (returned,) = next(node for node in nodes if node.op == "output").args
    outputs = tuple(
        node for node in (returned if isinstance(returned, (list, tuple)) else [returned]) if node is not None
    )
    return Run(module.graph, constants, inputs, outputs, record(nodes), "recorded run", input_specific=True)


def _argument_names(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """Of every leaf of the arguments, in their order."""
    from torch.utils import _pytree as pytree

    own = [*inspect.signature(model.forward).parameters.values()]
    names: list[str] = []
    for place, value in enumerate(args):
        variadic = [p for p in own[: place + 1] if p.kind is p.VAR_POSITIONAL]
        name = f"{variadic[0].name}_{place}" if variadic else own[place].name if place < len(own) else f"input_{place}"
        names += _numbered_names(name, len(pytree.tree_leaves(value)))
    for name, value in kwargs.items():
        names += _numbered_names(name, len(pytree.tree_leaves(value)))
    return names


def _numbered_names(name: str, count: int) -> list[str]:
    return [name] if count == 1 else [f"{name}_{k}" for k in range(count)]


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Buffers that the run changes get their values back."""
    import torch

    before = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, values in before:
                buffer.copy_(values)


@contextmanager
def _module_calls(model: nn.Module) -> Iterator[Callable[[Sequence[fx.Node]], Mapping[fx.Node, Site]]]:
    """Notes which module begins and ends behind how many nodes; yields what gives each node its innermost module."""
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    events: list[tuple[int, Site | None]] = []
    calls: dict[str, int] = {}

    def count() -> int:
        mode: Any = get_proxy_mode()
        return 0 if mode is None else len(mode.tracer.graph.nodes)

    def begin(path: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            calls[path] = calls.get(path, -1) + 1
            events.append((count(), (path, f"{path}@{calls[path]}")))

        return hook

    def end(*_: Any) -> None:
        events.append((count(), None))

    def sites(nodes: Sequence[fx.Node]) -> Mapping[fx.Node, Site]:
        found: dict[fx.Node, Site] = {}
        stack: list[Site] = []
        waiting = iter([*events, (len(nodes) + 1, None)])
        at, what = next(waiting)
        for k, node in enumerate(nodes):
            while at <= k:
                if what is None:
                    stack.pop()
                else:
                    stack.append(what)
                at, what = next(waiting)
            if stack:
                found[node] = stack[-1]
        return found

    with ExitStack() as stack:
        for path, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(begin(path)).remove)
            stack.callback(module.register_forward_hook(end, always_call=True).remove)
        yield sites
