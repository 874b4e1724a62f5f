"""The strength of every node of one affine layer, dense or convolutional, by one rule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from netassay._core import network as native
from netassay.base import arrays, memory
from netassay.base import threads as _threads
from netassay.base.errors import DomainError, LimitExceeded, NonFinite, ShapeError
from netassay.network.convolution import Float64, Geometry, Size, geometry, kernel_sums, per_axis, spread

if TYPE_CHECKING:
    from netassay.base.arrays import ArrayLike, View

Kind: TypeAlias = Literal[
    "linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"
]
Of: TypeAlias = Literal["signed", "absolute", "squared"]

#: Axes of the kernel.
KINDS: dict[str, int] = {
    "linear": 0,
    **{f"{name}{n}d": n for name in ("conv", "conv_transpose") for n in (1, 2, 3)},
}
#: Which of the sums of w, |w| and w^2.
OF: dict[str, int] = {"signed": 0, "absolute": 1, "squared": 2}


@dataclass(frozen=True, slots=True, eq=False)
class LayerStrength:
    """What an affine layer f(x) = T x + b links to each of its nodes: in-strength f(1), out-strength T^T 1.

    Attributes:
        incoming: (out,), or (C_out, *positions) of a convolution, float64: sum_j T_kj + b_k of every output.
        outgoing: (in,), or (C_in, *input_size), float64: sum_k T_kj of every input.
        of: "signed": of T and b, in units of the weights; "absolute": of |T| and |b|; "squared": of T^2 and b^2, in
            units of the weights squared. Of a node's positive links (absolute + signed) / 2, of its negative ones
            (signed - absolute) / 2.
        flags: "kernel_level" (a convolution without an input size: (C_out,) and (C_in,), of every link that the kernel
            has, as at a position far from any border where stride is 1).
    """

    incoming: Float64
    outgoing: Float64
    of: Of
    flags: tuple[str, ...]


def layer_strength(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    kind: Kind = "linear",
    input_size: Size | None = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
    output_padding: Size = 0,
    of: Of = "signed",
    threads: int | None = None,
) -> LayerStrength:
    """The strength of every node of one affine layer; see `LayerStrength`.

    A convolution's nodes are (channel, position), in the order in which torch flattens them. Its graph is never formed:
    the sums of its kernels over channels are joined, axis by axis, with which taps reach which positions. Positions
    near a border have fewer links, as zeros of the padding are no nodes; stride, dilation and groups are torch's.

    >>> import numpy as np
    >>> layer_strength(np.array([[1.0, -2.0], [3.0, 0.0]]), np.array([0.5, 0.0])).incoming
    array([-0.5,  3. ])
    >>> layer_strength(np.ones((1, 1, 3)), kind="conv1d", input_size=5, padding=1).incoming
    array([[2., 3., 3., 3., 2.]])

    Args:
        weight: (out, in); (C_out, C_in / groups, *kernel); transposed (C_in, C_out / groups, *kernel): as torch stores
            them, in float64, float32, bfloat16, float16, an 8-bit float, int8 or uint8.
        bias: (out,) or (C_out,), in any of these formats; one more link of every output node.
        kind: "linear", "conv1d" to "conv3d", "conv_transpose1d" to "conv_transpose3d".
        input_size: positions that enter, one number for each axis of the kernel (or one for all), without channels.
            None: strengths of channels, flagged "kernel_level"; stride, padding and dilation then change nothing.
        stride, padding, dilation, groups, output_padding: as of torch's layer; zeros are padded. padding "same" or
            "valid" too.
        of: links as they are, their magnitudes, or their squares.
        threads: of a linear layer; never change the result.

    Raises:
        ShapeError: a weight of other axes, a bias or a size that does not fit, groups that do not divide, an input no
        position leaves. DomainError: an unknown kind or `of`, numbers out of range, what a linear layer does not have.
        DTypeError. NonFinite: a NaN or an infinity, by its index; sums beyond float64. LimitExceeded: nodes that memory
        does not hold.

    Source: La Malfa et al., "Deep Neural Networks as Complex Networks" (arXiv 2209.05488); the rule for convolutions
    is the same sums over their Jacobian.
    """
    name = "layer_strength"
    view, axes = _weight(weight, kind, of, name)
    flags: tuple[str, ...] = ()
    if axes == 0:
        if input_size is not None or (stride, padding, dilation, groups, output_padding) != (1, 0, 1, 1, 0):
            raise DomainError(
                f"{name}: got what a convolution has with a linear layer, expected kind= of a convolution"
            )
        incoming, outgoing = _dense(view, of, _threads.resolve(threads), name)
    else:
        transposed = "transpose" in kind
        moves = geometry(view.array.shape[2:], stride, padding, dilation, output_padding, transposed, name)
        groups = checked_groups(view.array.shape[0], groups, name)
        sizes = None if input_size is None else per_axis(input_size, axes, 1, "input_size", name)
        flags = ("kernel_level",) if sizes is None else ()
        incoming, outgoing = _convolution(view, of, moves, groups, sizes, transposed, name)
    if bias is not None:
        added = bias_values(bias, len(incoming), name)
        incoming = incoming + (added, np.abs(added), added * added)[OF[of]].reshape(-1, *[1] * (incoming.ndim - 1))
    check_sums((incoming, outgoing), name)
    return LayerStrength(arrays.read_only(incoming), arrays.read_only(outgoing), of, flags)


def _weight(weight: ArrayLike, kind: str, of: str, function: str) -> tuple[View, int]:
    """The weight, and the axes of its kernel."""
    if kind not in KINDS:
        raise DomainError(f"{function}: got kind {kind!r}, expected one of {', '.join(KINDS)}")
    if of not in OF:
        raise DomainError(f"{function}: got of={of!r}, expected one of {', '.join(OF)}")
    view, axes = arrays.weight_view(weight, function), KINDS[kind]
    if view.array.ndim != axes + 2 or view.array.size == 0:
        got, expected = f"a {kind} weight of shape {view.array.shape}", f"{axes + 2} axes" if axes else "(out, in)"
        raise ShapeError(f"{function}: got {got}, expected {expected}, none of them 0")
    return view, axes


def _dense(view: View, of: Of, threads: int, function: str) -> tuple[Float64, Float64]:
    try:
        found = native.sums(view.array, view.dtype, threads=threads)
    except NonFinite:
        raise arrays.nonfinite(view, function) from None
    return found[OF[of]], found[3 + OF[of]]


def _convolution(
    view: View, of: Of, moves: Geometry, groups: int, size: tuple[int, ...] | None, transposed: bool, function: str
) -> tuple[Float64, Float64]:
    """In- and out-strength without a bias."""
    axes = () if size is None else moves.axes(size, transposed, function)
    if axes:
        n, m = view.array.shape[0], view.array.shape[1] * groups
        nodes = n * math.prod(a.windows for a in axes) + m * math.prod(a.positions for a in axes)
        if 16 * nodes > memory.available():  # a result, and the step before it
            raise LimitExceeded(
                f"{function}: got {nodes} nodes that take {16 * nodes} bytes, expected less than is free"
            )
    with np.errstate(over="ignore", invalid="ignore"):
        rows, columns = kernel_sums(powers(view, of), groups)
        if not (np.isfinite(rows).all() and np.isfinite(columns).all()):
            raise infinite(view, function)
        if axes:
            at_windows = spread(rows, [a.covered() for a in axes])
            at_positions = spread(columns, [a.covering() for a in axes])
        else:
            at_windows, at_positions = (sums.reshape(len(sums), -1).sum(axis=1) for sums in (rows, columns))
    return (at_positions, at_windows) if transposed else (at_windows, at_positions)


def powers(view: View, of: Of) -> NDArray[Any]:
    """w, |w| or w^2, in a float that holds them."""
    values = arrays.widened(view)
    if values.dtype.kind != "f":
        values = values.astype(np.float32)  # |-128| is no int8
    if of == "squared":
        squares: Float64 = np.square(values, dtype=np.float64)
        return squares
    return values if of == "signed" else np.abs(values)


def checked_groups(channels: int, groups: int, function: str) -> int:
    """Groups that divide the first axis of a weight."""
    (count,) = per_axis(groups, 1, 1, "groups", function)
    if channels % count:
        raise ShapeError(f"{function}: got {count} groups of {channels} channels, expected a divisor")
    return count


def bias_values(bias: ArrayLike, count: int, function: str) -> Float64:
    """(count,) float64, finite."""
    view = arrays.weight_view(bias, function)
    if view.array.shape != (count,):
        raise ShapeError(f"{function}: got a bias of shape {view.array.shape}, expected ({count},)")
    values: Float64 = arrays.widened(view).astype(np.float64)
    if not np.isfinite(values).all():
        index = int(np.flatnonzero(~np.isfinite(values))[0])
        raise NonFinite(f"{function}: got {values[index]} at [{index}] of the bias, expected finite values")
    return values


def infinite(view: View, function: str) -> NonFinite:
    """What sums that are not finite come from: the first weight that is not, or their size."""
    if np.isfinite(arrays.widened(view)).all():
        return NonFinite(f"{function}: got weights whose sums lie beyond float64, expected smaller ones")
    return arrays.nonfinite(view, function)


def check_sums(sums: Sequence[Float64], function: str) -> None:
    """That finite weights have finite sums."""
    if not all(np.isfinite(each).all() for each in sums):
        raise NonFinite(f"{function}: got weights whose sums lie beyond float64, expected smaller ones")
