"""Arrays from wherever they come -> a numpy view and a dtype tag, without a copy where the memory allows it.

numpy has no bfloat16, so a tag travels beside the array: a bfloat16 tensor is a view of its bits (uint16) tagged
"bfloat16", an 8-bit float one of uint8 tagged "float8_e4m3fn" or "float8_e5m2". torch is never imported here: a tensor
can only come from a process that has it loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from netassay.base.errors import DTypeError, NonFinite, UnsupportedLayout

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: numpy array, torch tensor, or anything with the DLPack or the array protocol.
ArrayLike: TypeAlias = Any

#: What activations may be.
FLOATS = ("float64", "float32", "bfloat16", "float16")
#: What weights may be.
WEIGHTS = (*FLOATS, "float8_e4m3fn", "float8_e5m2", "int8", "uint8")
#: Tag -> numpy dtype of the array that carries it.
CARRIERS = {tag: "uint16" if tag == "bfloat16" else "uint8" if tag.startswith("float8") else tag for tag in WEIGHTS}


_Array = TypeVar("_Array", bound="NDArray[Any]")


def read_only(array: _Array) -> _Array:
    """The array, which nobody may write to any more."""
    array.flags.writeable = False
    return array


class View(NamedTuple):
    """A borrowed array of shape (...) and what its elements are."""

    array: NDArray[Any]
    dtype: str


def is_tensor(x: object) -> bool:
    """Whether x is a torch tensor."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, getattr(torch, "Tensor", ()))


def view(x: ArrayLike, function: str) -> View:
    """A view of floating-point data. The input is never changed; nothing is copied unless it must be.

    numpy arrays and torch CPU tensors (with any strides), and whatever speaks DLPack or the array protocol. Misaligned
    and big-endian arrays are copied. A tensor on another device is copied to the CPU.

    Raises:
        DTypeError: integers, booleans, complex numbers, objects. UnsupportedLayout: sparse, meta, quantised, nested or
        distributed tensors.
    """
    return tensor_view(x, function) if is_tensor(x) else _array_view(x, function, FLOATS)


def weight_view(x: ArrayLike, function: str) -> View:
    """A view of weights: what `view` takes, and 8-bit floats, int8 and uint8 as they stand (no scale, no zero point).

    A View is taken for what its tag says.

    Raises:
        As `view`; DTypeError also for a View whose array does not carry its tag.
    """
    if isinstance(x, View):
        got = f"a {x.array.dtype.name} array tagged {x.dtype!r}"
        if x.dtype not in WEIGHTS or x.array.dtype.name != CARRIERS[x.dtype]:
            raise DTypeError(f"{function}: got {got}, expected one that carries {_any_of(WEIGHTS)}")
        return View(_plain(x.array), x.dtype)
    return tensor_view(x, function, WEIGHTS) if is_tensor(x) else _array_view(x, function, WEIGHTS)


def widened(view: View) -> NDArray[Any]:
    """The values of a view as float32, or as what they are where that holds more."""
    array, dtype = view
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if dtype == "float8_e5m2":
        return (array.astype(np.uint16) << 8).view(np.float16).astype(np.float32)
    if dtype == "float8_e4m3fn":
        bits = array.astype(np.uint16)
        half = ((bits & 0x80) << 8 | (bits & 0x7F) << 7).view(np.float16).astype(np.float32) * np.float32(256)
        return np.where(bits & 0x7F == 0x7F, np.float32(np.nan), half)
    return array.astype(np.float32) if dtype == "float16" else array


def nonfinite(weight: ArrayLike, function: str, bias: ArrayLike | None = None) -> NonFinite:
    """The error that names the first bad value by its index in the weight as it was given."""
    for what, given in (("weight", weight), ("bias", bias)):
        if given is None:
            continue
        values = widened(weight_view(given, function))
        bad = ~np.isfinite(values)
        if bad.any():
            index = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), values.shape))
            more = f" and {bad.sum() - 1} more" if bad.sum() > 1 else ""
            return NonFinite(
                f"{function}: got {values[index]} at {list(index)} of the {what}{more}, expected finite values"
            )
    return NonFinite(f"{function}: got a NaN or an infinity, expected finite values")


def _any_of(tags: Sequence[str]) -> str:
    return f"{', '.join(tags[:-1])} or {tags[-1]}"


def _wrong(function: str, got: str, tags: Sequence[str]) -> DTypeError:
    hint = " (convert it yourself if the numbers mean activations)" if tags is FLOATS else ""
    return DTypeError(f"{function}: got dtype {got}, expected {_any_of(tags)}{hint}")


def _array_view(x: ArrayLike, function: str, tags: Sequence[str]) -> View:
    if isinstance(x, np.ma.MaskedArray):
        raise UnsupportedLayout(f"{function}: got a masked array, expected a plain one (leave rows out with mask=)")
    if isinstance(x, np.ndarray):
        array = x
    elif hasattr(x, "__dlpack__") and not hasattr(x, "__array_interface__"):
        array = _from_dlpack(x, function)
    else:
        array = np.asarray(x)
    tag = array.dtype.name  # that of ml_dtypes' extension types too
    if tag not in tags:
        raise _wrong(function, tag, tags)
    if CARRIERS[tag] != tag:
        array = array.view(CARRIERS[tag])
    return View(_plain(array), tag)


def _from_dlpack(x: Any, function: str) -> NDArray[Any]:
    try:
        return np.from_dlpack(x)
    except (RuntimeError, TypeError, BufferError, ValueError) as error:
        raise UnsupportedLayout(
            f"{function}: got {type(x).__name__} whose memory numpy cannot read ({error}), expected an array on the CPU"
        ) from error


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Native byte order, and every element where the processor expects one."""
    dtype = array.dtype.newbyteorder("=")
    steps = any(stride % dtype.itemsize for stride in array.strides)
    if array.dtype.isnative and array.flags.aligned and not steps:
        return array
    return np.array(array, dtype=dtype, order="C", copy=True)  # ascontiguousarray would keep a misaligned one


def refusal(tensor: Any, tags: Sequence[str] = FLOATS) -> str | None:
    """Why a torch tensor cannot be read as a dense array, or None. Must not run any torch operation."""
    torch = sys.modules["torch"]
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter, getattr(torch.nn, "Buffer", torch.Tensor)):
        kind = type(tensor).__name__
        return f"a {kind} is not a plain tensor: a shard or a wrapper is never taken for the whole"
    if tensor.is_nested:
        return "nested tensor"
    if tensor.layout != torch.strided:
        return f"sparse tensor ({tensor.layout})"
    if tensor.is_quantized:
        return f"quantised tensor ({tensor.dtype})"
    if tensor.is_meta:
        return "meta tensor: it has a shape and no values"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "inside a function transform (vmap, grad): it has no memory of its own"
    tag = str(tensor.dtype).removeprefix("torch.")
    return None if tag in tags else f"dtype {tag}"


def tensor_view(tensor: Any, function: str, tags: Sequence[str] = FLOATS) -> View:
    """The view of a torch tensor; see `view`."""
    torch = sys.modules["torch"]
    with torch._C.DisableTorchFunction():
        why = refusal(tensor, tags)
        if why is not None:
            if why.startswith("dtype "):
                raise _wrong(function, why.removeprefix("dtype "), tags)
            raise UnsupportedLayout(f"{function}: got {why}; expected a dense tensor with values")
        plain = tensor.detach()
        if plain.is_neg():
            plain = plain.resolve_neg()
        if plain.device.type != "cpu":
            plain = plain.cpu()
        tag = str(plain.dtype).removeprefix("torch.")
        if CARRIERS[tag] != tag:
            plain = plain.view(getattr(torch, CARRIERS[tag]))
        return View(_plain(plain.numpy()), tag)


def mask_view(mask: ArrayLike, rows: tuple[int, ...], function: str) -> NDArray[np.bool_]:
    """A mask as a boolean array with one element per row.

    Args:
        rows: shape of the row axes; the mask has this shape, or that of the rows in a line.

    Raises:
        ShapeError: another shape. DTypeError: not boolean.
    """
    from netassay.base.errors import ShapeError

    if is_tensor(mask):
        mask = mask.detach().cpu().numpy()
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise DTypeError(f"{function}: got a mask of dtype {array.dtype.name}, expected bool")
    count = int(np.prod(rows, dtype=np.int64))
    if array.shape not in (rows, (count,)):
        raise ShapeError(f"{function}: got a mask of shape {array.shape}, expected {rows} or ({count},)")
    return np.ascontiguousarray(array).reshape(count)
