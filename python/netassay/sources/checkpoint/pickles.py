"""What unpickling a torch file would do, found out without doing any of it.

A pickle may name any function, and even one that names none but torch's can take all memory or all time: containers
that are copied again and again, keys that are hashed for ever, tensors that claim more than the file holds. Here the
pickle runs on a machine that knows only sizes and names, of every protocol that torch.save writes: what it makes of
tensors says where their bytes lie, and nothing is called.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable
from typing import Any

from netassay.base.errors import CorruptCheckpoint, NetassayError, UnsupportedLayout
from netassay.base.text import shown
from netassay.sources.checkpoint.claims import Box, Claim, Global, Other, Result, Storage, Tuple
from netassay.sources.checkpoint.tensors import ITEMSIZE

#: A pickle is names, shapes and offsets, some 200 bytes a tensor; longer than this and it is something else.
MOST = 1 << 24
_DEEP = 64
_ERRORS = (IndexError, KeyError, TypeError, ValueError, AttributeError, OverflowError)

_REBUILD = "torch._utils._rebuild_"
_TENSORS = {f"{_REBUILD}tensor", f"{_REBUILD}tensor_v2", f"{_REBUILD}tensor_v3"}
_PARAMETERS = {f"{_REBUILD}parameter", f"{_REBUILD}parameter_with_state"}
#: What copies its argument into something as large.
_COPIES = {
    "collections.OrderedDict",
    "collections.Counter",
    "builtins.set",
    "builtins.frozenset",
    "torch.Size",
    "_codecs.encode",
}
_CALLS = {
    *(_TENSORS | _PARAMETERS | _COPIES),
    *(f"{_REBUILD}sparse_tensor", f"{_REBUILD}meta_tensor_no_storage", "torch._tensor._rebuild_from_type_v2"),
    *("torch.serialization._get_layout", "torch.device", "builtins.complex", "builtins.bytearray"),
}
_TYPES = {"torch.Tensor", "torch.nn.parameter.Parameter"}
_DTYPES = re.compile(r"torch\.(u?int\d+|float\w*|bfloat16|half|double|short|int|long|bool|complex\d+)")
#: Storage -> the dtype of what lies in it; "Untyped" is bytes.
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexDouble": "complex128",
    "ComplexFloat": "complex64",
    "Untyped": "uint8",
}
_SHORT = {"half": "float16", "float": "float32", "double": "float64", "short": "int16", "int": "int32", "long": "int64"}
_STORAGE = re.compile(r"torch(?:\.cuda|\.storage)?\.(\w+)Storage")


def scan(stream: io.BytesIO, what: str) -> Result:
    """The next pickle of a stream.

    Raises:
        CorruptCheckpoint: damaged, or no honest file. UnsupportedLayout: objects other than tensors.
    """
    machine = _Machine(what)
    try:
        for opcode, argument, position in pickletools.genops(stream):
            machine.step(opcode.name, argument, int(position or 0))
        root = machine.stack.pop()
    except NetassayError:
        raise
    except _ERRORS as error:
        raise CorruptCheckpoint(f"{what}: its pickle is damaged ({str(error) or type(error).__name__})") from None
    return Result(root, machine.storages, machine.beyond)


class _Machine:
    def __init__(self, what: str) -> None:
        self.what = what
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, int] = {}
        self.beyond = 0
        self.copied = self.hashed = 0
        self.heaviest = 1

    def step(self, name: str, argument: Any, position: int) -> None:
        operation = _OPERATIONS.get(name)
        if operation is None:
            raise CorruptCheckpoint(f"{self.what}: its pickle has an operation {name}, which torch does not write")
        operation(self, argument)
        # Every element takes a byte of the pickle at least once; what is copied more often is no state_dict.
        if self.copied > position + 64 or self.hashed > 64 * (position + 64):
            raise CorruptCheckpoint(f"{self.what}: its pickle builds more than it holds")

    def refuse(self, what: str) -> None:
        raise UnsupportedLayout(
            f"{self.what}: got {shown(what)} in it, expected tensors alone; nothing of it was run."
            " Where you trust the file, load it yourself and pass its state_dict"
        )

    def since_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def stack_glob(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TypeError("a name that is no text")
        self.named(module, name)

    def glob(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.named(module, name)

    def named(self, module: str, name: str) -> None:
        path = f"{'builtins' if module == '__builtin__' else module}.{name}"
        known = path in _CALLS or path in _TYPES or _DTYPES.fullmatch(path) or _STORAGE.fullmatch(path)
        if not known:
            self.refuse(path)
        self.stack.append(Global(path))

    def tuple_(self, items: list[Any]) -> None:
        inner = [item for item in items if isinstance(item, Tuple)]
        made = Tuple(items, 1 + len(items) + sum(i.weight for i in inner), 1 + max((i.depth for i in inner), default=0))
        if made.depth > _DEEP:
            raise CorruptCheckpoint(f"{self.what}: its pickle has tuples {made.depth} deep")
        self.heaviest = max(self.heaviest, made.weight)
        self.stack.append(made)

    def last(self, count: int) -> None:
        items = self.stack[len(self.stack) - count :]
        if len(items) != count:
            raise IndexError("stack")
        del self.stack[len(self.stack) - count :]
        self.tuple_(items)

    def append(self, items: list[Any]) -> None:
        box = self.box()
        box.size += len(items)
        box.items += items

    def box(self) -> Box:
        if not isinstance(self.stack[-1], Box):
            raise TypeError("elements of what has none")
        return self.stack[-1]

    def set(self, items: list[Any]) -> None:
        box = self.box()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.hashed += key.weight if isinstance(key, Tuple) else 1
            if isinstance(key, (str, int, float, bytes, type(None))):
                box.table[str(key)] = value  # texts alone: other keys can be made to collide
        box.size += len(items) // 2

    def add(self, items: list[Any]) -> None:
        box = self.box()
        self.hashed += sum(item.weight if isinstance(item, Tuple) else 1 for item in items)
        box.size += len(items)

    def frozen(self, _: Any) -> None:
        items = self.since_mark()
        self.push(Box("set"))
        self.add(items)

    def build(self, _: Any) -> None:
        self.copied += _size(self.stack.pop())
        if not isinstance(self.stack[-1], (Box, Claim, Other)):
            raise TypeError("a state for what has none")

    def persistent(self, _: Any) -> None:
        items = self.stack.pop().items
        if items[0] != "storage" or len(items) not in (5, 6):
            self.refuse(f"a reference to {items[0]!r}")
        dtype, (key, count) = self.kept(items[1]), (items[2], items[4])
        item = ITEMSIZE[dtype]
        view = items[5].items if len(items) == 6 and items[5] is not None else (None, 0, count)
        if not isinstance(key, str) or not _counts(count, view[1], view[2]) or view[1] + view[2] > count:
            raise ValueError("a storage of no size")
        self.storages[key] = max(self.storages.get(key, 0), count * item)
        self.stack.append(Storage(key, dtype, view[1] * item, view[2] * item))

    def kept(self, kind: Any) -> str:
        found = _STORAGE.fullmatch(kind.path)
        if found is None or found[1] not in _STORAGES:
            self.refuse(kind.path)
        assert found is not None
        return _STORAGES[found[1]]

    def reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(self.call(function.path, list(arguments.items)))

    def call(self, path: str, arguments: list[Any]) -> Any:
        if path not in _CALLS:
            self.refuse(path)
        if path in _TENSORS:
            return self.tensor(path, arguments)
        if path in _PARAMETERS:
            return arguments[0]
        if path == f"{_REBUILD}meta_tensor_no_storage":
            return Other("meta tensor: it has a shape and no values", _dtype(arguments[0].path), _extents(arguments[1]))
        if path == f"{_REBUILD}sparse_tensor":
            return Other(f"sparse tensor ({self.layout(arguments[0])})", *_sparse(arguments[1].items))
        if path == "torch._tensor._rebuild_from_type_v2":
            self.copied += _size(arguments[3])
            return self.call(arguments[0].path, list(arguments[2].items))
        if path == "builtins.bytearray" and arguments and not isinstance(arguments[0], (Box, bytes)):
            raise ValueError("a bytearray of nothing")
        size = sum(map(_size, arguments))
        self.copied += size
        self.hashed += size * self.heaviest
        made = Box("dict" if path == "collections.OrderedDict" else path, size)
        if path == "torch.serialization._get_layout":
            made.items = arguments
        if path == "torch.Size":
            made.items = list(arguments[0].items)
        if path == "collections.OrderedDict" and arguments:  # of pairs, as Python 2 wrote it
            pairs = [pair.items for pair in arguments[0].items]
            made.table = {key: value for key, value in pairs if isinstance(key, str)}
        return made

    def layout(self, box: Any) -> str:
        name = box.items[0] if isinstance(box, Box) and box.items else None
        return shown(name) if isinstance(name, str) else "of another layout"

    def tensor(self, path: str, arguments: list[Any]) -> Claim | Other:
        storage, offset, shape, stride = arguments[0], arguments[1], _extents(arguments[2]), _extents(arguments[3])
        typed = path.endswith("_v3")
        dtype = _dtype(arguments[6].path) if typed else storage.dtype
        item = _item_of(dtype)
        if not _counts(offset) or len(shape) != len(stride):
            raise ValueError("a tensor of no shape")
        nbytes, span = item * math.prod(shape), 0
        if nbytes:
            span = item * (1 + sum((extent - 1) * step for extent, step in zip(shape, stride, strict=True)))
        if offset * item + span > storage.nbytes:
            raise ValueError("a tensor that ends behind its storage")
        self.beyond += max(0, nbytes - storage.nbytes)
        views = arguments[7 if typed else 6 :]
        if views and isinstance(views[0], Box) and views[0].size:
            return Other("a conjugate or negative view", dtype, shape)
        return Claim(storage, storage.offset + offset * item, nbytes, dtype, shape, stride, span)


def _extents(value: Any) -> tuple[int, ...]:
    if not _counts(*value.items):
        raise ValueError("a tensor of no shape")
    return tuple(value.items)


def _sparse(parts: list[Any]) -> tuple[str, tuple[int, ...]]:
    """The dtype and the shape of a sparse tensor, from its indices, its values and its size."""
    values = [part for part in parts if isinstance(part, Claim)]
    sizes = [part for part in parts if isinstance(part, (Tuple, Box)) and part.items and _counts(*part.items)]
    return values[-1].dtype if values else "float32", tuple(sizes[0].items) if sizes else (0,)


def _dtype(path: str) -> str:
    name = path.removeprefix("torch.")
    return _SHORT.get(name, name)


def _item_of(dtype: str) -> int:
    """Bytes of an element; of a dtype that is never read, at least one."""
    return ITEMSIZE.get(dtype, 1)


def _counts(*values: Any) -> bool:
    return all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _size(value: Any) -> int:
    if isinstance(value, (Box, Tuple)):
        return value.size if isinstance(value, Box) else len(value.items)
    return len(value) if isinstance(value, (str, bytes)) else 1


def _keep(value: Any) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(value)


def _new(kind: str) -> Callable[[_Machine, Any], None]:
    return lambda machine, _: machine.push(Box(kind))


def _argument(machine: _Machine, argument: Any) -> None:
    machine.push(argument)


#: The operations of protocols 2 to 5 that torch.save makes of tensors and of what stands beside them.
_OPERATIONS: dict[str, Callable[[_Machine, Any], None]] = {
    **dict.fromkeys(("PROTO", "STOP", "FRAME"), lambda machine, _: None),
    "NONE": _keep(None),
    "NEWTRUE": _keep(True),
    "NEWFALSE": _keep(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), _argument),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "SHORT_BINSTRING"), _argument),
    **dict.fromkeys(("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _argument),
    "EMPTY_LIST": _new("list"),
    "EMPTY_DICT": _new("dict"),
    "EMPTY_SET": _new("set"),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    "MEMOIZE": _Machine.memoize,
    "MARK": _Machine.mark,
    "EMPTY_TUPLE": lambda machine, _: machine.tuple_([]),
    "TUPLE": lambda machine, _: machine.tuple_(machine.since_mark()),
    "TUPLE1": lambda machine, _: machine.last(1),
    "TUPLE2": lambda machine, _: machine.last(2),
    "TUPLE3": lambda machine, _: machine.last(3),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set(machine.since_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.since_mark()),
    "FROZENSET": _Machine.frozen,
    "GLOBAL": _Machine.glob,
    "STACK_GLOBAL": _Machine.stack_glob,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.reduce,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
