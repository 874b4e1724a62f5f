"""Arrays from wherever they come -> a numpy view and a dtype tag, without a copy where the memory allows it.

numpy has no bfloat16, so a tag travels beside the array: a bfloat16 tensor is a view of its bits (uint16) tagged
"bfloat16". torch is never imported here: a tensor can only come from a process that has it loaded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from netassay.base.errors import DTypeError, UnsupportedLayout

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: numpy array, torch tensor, or anything with the DLPack or the array protocol.
ArrayLike: TypeAlias = Any

_FLOATS = {"f8": "float64", "f4": "float32", "f2": "float16"}


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
    if is_tensor(x):
        return tensor_view(x, function)
    if isinstance(x, np.ma.MaskedArray):
        raise UnsupportedLayout(f"{function}: got a masked array, expected a plain one (leave rows out with mask=)")
    if isinstance(x, np.ndarray):
        array = x
    elif hasattr(x, "__dlpack__") and not hasattr(x, "__array_interface__"):
        array = _from_dlpack(x, function)
    else:
        array = np.asarray(x)
    dtype = array.dtype
    if dtype.name == "bfloat16":  # ml_dtypes' extension type
        return View(_plain(array.view(np.uint16)), "bfloat16")
    tag = _FLOATS.get(dtype.str[1:]) if dtype.kind == "f" else None
    if tag is None:
        raise DTypeError(
            f"{function}: got dtype {dtype.name}, expected float64, float32, bfloat16 or float16"
            " (convert it yourself if the numbers mean activations)"
        )
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


def refusal(tensor: Any) -> str | None:
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
    if tensor.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        return f"dtype {str(tensor.dtype).removeprefix('torch.')}"
    return None


def tensor_view(tensor: Any, function: str) -> View:
    """The view of a torch tensor; see `view`."""
    torch = sys.modules["torch"]
    with torch._C.DisableTorchFunction():
        why = refusal(tensor)
        if why is not None:
            if why.startswith("dtype "):
                raise DTypeError(
                    f"{function}: got {why}, expected float64, float32, bfloat16 or float16"
                    " (convert it yourself if the numbers mean activations)"
                )
            raise UnsupportedLayout(f"{function}: got {why}; expected a dense tensor with values")
        plain = tensor.detach()
        if plain.is_neg():
            plain = plain.resolve_neg()
        if plain.device.type != "cpu":
            plain = plain.cpu()
        if plain.dtype == torch.bfloat16:
            return View(_plain(plain.view(torch.uint16).numpy()), "bfloat16")
        tag = {torch.float64: "float64", torch.float32: "float32", torch.float16: "float16"}[plain.dtype]
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
