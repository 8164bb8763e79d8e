"""PyTorch's `.pth` files, read without executing anything.

Such a file holds a pickle, a little program that usually may call anything. Here a disassembler lists its
instructions, and a small stack machine follows those that describe dictionaries of tensors. Any other is refused by
name. Objects are kept as their attributes and their class is never looked up, so that the state of a whole pickled
module can be read. Two containers are known: the zip of PyTorch 1.6 and newer, and the five pickles in a row from
before.
"""

from __future__ import annotations

import io
import os
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import torch
from torch import Tensor

from pocketseg import memory
from pocketseg.errors import ModelFileError
from pocketseg.files import open_regular

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
# Far above any net: DenseNet-121 has 727 tensors and 24 thousand instructions.
MAX_INSTRUCTIONS = 2_000_000
MAX_TENSORS = 50_000
# Letters of a tensor's name.
MAX_NAME = 10_000
MAX_AXES = 16
# Above every offset; sums of numbers of a million digits would take for ever.
MAX_NUMBER = 2**128
# Tensors may share a storage, but not so often that a small file fills the memory.
MAX_TIMES_SHARED = 4

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
REBUILD = {"torch._utils._rebuild_tensor": 4, "torch._utils._rebuild_tensor_v2": 6}
PARAMETER = "torch._utils._rebuild_parameter"
ORDERED = "collections.OrderedDict"
# Calls whose result no net needs; they are not made, and something empty stands for it.
UNUSED = {
    "torch.device", "torch.Size", "builtins.set", "__builtin__.set", "collections.defaultdict", "collections.Counter",
    "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "_codecs.encode",
}  # fmt: skip
LITERALS = {
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
    "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip


@dataclass(frozen=True)
class _Global:
    """A name that the pickle asks for; it is never looked up."""

    name: str


@dataclass
class _Object:
    """An object of a class that is never looked up, with the attributes that the pickle gives it.

    What the class inherits from dict or list is dropped.
    """

    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def is_module(self) -> bool:
        """Whether it has what every module of PyTorch has."""
        return all(isinstance(self.attributes.get(key), dict) for key in ("_parameters", "_buffers", "_modules"))


@dataclass(frozen=True)
class _Storage:
    """Numbers in a row, somewhere in the file."""

    key: str
    dtype: torch.dtype
    numel: int

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class _Lazy:
    """A tensor to be: a view of a storage. Offset and strides count numbers, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def numel(self) -> int:
        return int(np.prod(self.shape, dtype=object))

    def fault(self) -> str | None:
        """Why this is not a view of its storage; None where it is one."""
        if len(self.shape) != len(self.stride) or len(self.shape) > MAX_AXES:
            return f"has shape {self.shape[:MAX_AXES]} and strides {self.stride[:MAX_AXES]}"
        if min([self.offset, *self.shape, *self.stride]) < 0:
            return "has a negative size, stride or offset"
        steps = ((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        end = self.offset + sum(steps) + 1 if self.numel else self.offset
        if end > self.storage.numel:
            return f"ends at number {end:,} of a storage of {self.storage.numel:,}"
        if self.numel > self.storage.numel:
            return f"repeats a storage of {self.storage.numel:,} numbers to {self.numel:,}"
        return None


def read_pth(path: Path) -> dict[str, Tensor]:
    """Tensors of a state dict by name, in the order of the file; contiguous, and none shares memory with another.

    A state dict may lie in an outer one, beside other entries: {"state_dict": {…}, "epoch": 3}; other entries may also
    lie in it; and in its place there may be a whole module, whose state it would be.

    Raises:
        ModelFileError: missing, truncated, no state dict, or a pickle that asks for anything else than tensors.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = file.read(4)
            file.seek(0)
            read = _read_zip if start == b"PK\x03\x04" else _read_legacy
            return read(path, file, size)
    except FileNotFoundError:
        raise ModelFileError(str(path), "does not exist", "check the path") from None
    except (
        OSError, EOFError, ValueError, LookupError, TypeError, OverflowError, RuntimeError, MemoryError, struct.error,
        zipfile.BadZipFile,
    ) as error:  # fmt: skip
        what, fix = f"is damaged or not a PyTorch file ({error})", "use another copy, or save the state dict again"
        raise memory.explained(error, ModelFileError(str(path), what, fix)) from None


def _read_zip(path: Path, file: BinaryIO, size: int) -> dict[str, Tensor]:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        if len(entries) != len(archive.infolist()):
            _refuse(path, "has two entries of one name")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries.values()):
            _refuse(path, "is compressed, which PyTorch never does")
        if sum(entry.file_size for entry in entries.values()) > size:
            _refuse(path, f"promises more than its {size:,} bytes")
        pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            _refuse(path, f"is a zip with {len(pickles)} entries NAME/data.pkl, not one")
        folder = pickles[0].removesuffix("data.pkl")
        order = archive.read(folder + "byteorder") if folder + "byteorder" in entries else b"little"
        if order not in (b"little", b"big"):
            _refuse(path, f"has the byte order {order!r}")
        machine = _Machine(path, io.BytesIO(archive.read(pickles[0])))

        def content(storage: _Storage) -> bytearray:
            entry = entries.get(f"{folder}data/{storage.key}")
            if entry is None or entry.file_size < storage.nbytes:
                _refuse(path, f"has no {storage.nbytes:,} bytes for storage {storage.key!r}")
            data = np.frombuffer(archive.read(entry), np.uint8, storage.nbytes)
            if order == b"big":
                data = data.reshape(-1, storage.dtype.itemsize)[:, ::-1]
            return bytearray(data.tobytes())

        return _tensors(path, _state_dict(path, machine.run()), content, size)


def _read_legacy(path: Path, file: BinaryIO, size: int) -> dict[str, Tensor]:
    if file.read(1) != b"\x80":
        _refuse(path, "is not a PyTorch file")
    file.seek(0)
    if _Machine(path, file).run() != LEGACY_MAGIC:
        _refuse(path, "is a pickle, but no PyTorch file")
    if _Machine(path, file).run() != LEGACY_PROTOCOL:
        _refuse(path, "was written by an unknown version of PyTorch")
    _Machine(path, file).run()  # facts of the machine that wrote it, which matter to nothing
    machine = _Machine(path, file)
    names = _state_dict(path, machine.run())
    keys = _Machine(path, file).run()
    if not isinstance(keys, list) or len(set(keys)) < len(keys) or set(keys) != set(machine.storages):
        _refuse(path, "lists other storages than its tensors use")
    places: dict[str, int] = {}
    for key in keys:
        storage = machine.storages[key]
        (numel,) = struct.unpack("<q", file.read(8))
        places[key] = file.tell()
        if numel != storage.numel or places[key] + storage.nbytes > size:
            _refuse(path, f"has {numel:,} numbers in storage {key!r}, not the {storage.numel:,} it promises")
        file.seek(storage.nbytes, os.SEEK_CUR)

    def content(storage: _Storage) -> bytearray:
        file.seek(places[storage.key])
        return bytearray(file.read(storage.nbytes))

    return _tensors(path, names, content, size)


def _refuse(path: Path, what: str) -> NoReturn:
    raise ModelFileError(str(path), what, "save the net's state dict again: torch.save(net.state_dict(), path)")


class _Machine:
    """Follows one pickle from where the file stands to its end.

    `storages` are those it named, by key.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.file = file
        self.storages: dict[str, _Storage] = {}
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(self.file)):
            if count == MAX_INSTRUCTIONS:
                _refuse(self.path, f"has more than {MAX_INSTRUCTIONS:,} instructions")
            if instruction.name == "STOP":
                return self.stack.pop()
            self._step(instruction.name, argument)
        return None

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in LITERALS:
            stack.append(argument)
            return
        match name:
            case "PROTO" | "FRAME":
                pass
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "MARK":
                self.below.append(stack)
                self.stack = []
            case "TUPLE":
                self._push(tuple(self._since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                count = int(name[-1])
                stack[-count:] = [tuple(stack[i] for i in range(-count, 0))]
            case "APPEND":
                value = stack.pop()
                self._extend([value])
            case "APPENDS":
                self._extend(self._since_mark())
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                self._fill([key, value])
            case "SETITEMS":
                self._fill(self._since_mark())
            case "NEWOBJ":
                arguments, kind = stack.pop(), stack.pop()
                if not isinstance(kind, _Global) or not isinstance(arguments, tuple):
                    raise ValueError("an object without a class")
                stack.append(_Object())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL":
                stack.append(_Global(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                last, module = stack.pop(), stack.pop()
                stack.append(_Global(f"{module}.{last}"))
            case "BINPERSID":
                stack.append(self._persistent(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "BUILD":
                self._build(stack.pop())
            case _:
                _refuse(self.path, f"has the instruction {name}, which no state dict needs; nothing was executed")

    def _push(self, value: Any) -> None:
        self.stack.append(value)

    def _since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"a {kind.__name__} was expected")
        return self.stack[-1]

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], _Object):
            self._top(list).extend(values)

    def _build(self, attributes: Any) -> None:
        """Give attributes to an object; those of an OrderedDict, the versions of the modules that wrote it, are not."""
        target = self.stack[-1]
        if not isinstance(target, _Object):
            self._top(dict)
        elif type(attributes) is dict:
            target.attributes |= attributes

    def _fill(self, items: list[Any]) -> None:
        """Set keys and values in turn. Keys are plain, so that hashing them is."""
        if isinstance(self.stack[-1], _Object):
            return
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise ValueError("a key that is neither a text nor a number")
            target[key] = value

    def _call(self, function: Any, arguments: Any) -> Any:
        """What a call of one of the known names would give."""
        name = function.name if isinstance(function, _Global) else "something without a name"
        if not isinstance(arguments, tuple):
            raise ValueError(f"{name} is called without a tuple")
        if name == ORDERED and len(arguments) <= 1:
            # Python 2 gives the items as a list of pairs.
            pairs = arguments[0] if arguments else []
            self._push({})
            for pair in pairs:
                self._fill(list(pair))
            return self.stack.pop()
        if name == PARAMETER and len(arguments) == 3 and isinstance(arguments[0], _Lazy):
            return arguments[0]
        if len(arguments) == REBUILD.get(name):
            return self._lazy(*arguments[:4])
        if name in UNUSED:
            return _Object()
        if name in (ORDERED, PARAMETER, *REBUILD):
            _refuse(self.path, f"calls {name} in a way that no state dict does; nothing was executed")
        _refuse(self.path, f"asks for {name[:200]}, which is not a tensor; nothing was executed")

    def _persistent(self, given: Any) -> _Storage | _Global:
        """What a persistent id names: a storage; or in old files the class of a module, with its source text.

        A storage is ("storage", type, key, device, numel), with None behind it in old files.
        """
        if isinstance(given, tuple) and len(given) == 4 and given[0] == "module" and isinstance(given[1], _Global):
            return given[1]
        word, kind, key, _, numel, *view = given
        if word != "storage" or not isinstance(kind, _Global) or not isinstance(key, str) or any(view):
            raise ValueError("a storage of an unknown form")
        dtype = STORAGES[kind.name.removeprefix("torch.")]
        if type(numel) is not int or not 0 <= numel < MAX_NUMBER:
            raise ValueError("a storage without a size")
        storage = _Storage(key, dtype, numel)
        if self.storages.setdefault(key, storage) != storage:
            raise ValueError(f"the storage {key!r} has two types or sizes")
        return storage

    def _lazy(self, storage: Any, offset: Any, shape: Any, stride: Any) -> _Lazy:
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise ValueError("a tensor without storage, shape or strides")
        if not all(type(number) is int and abs(number) < MAX_NUMBER for number in (offset, *shape, *stride)):
            raise ValueError("a tensor whose shape is not of whole numbers")
        return _Lazy(storage, offset, shape, stride)


def _state_dict(path: Path, value: Any) -> dict[str, _Lazy]:
    """The state dict itself, or the only one in an outer dict."""
    found = _state(path, value)
    if isinstance(value, dict):
        inner = {key: state for key, part in value.items() if (state := _state(path, part))}
        if len(inner) > 1:
            names = ", ".join(repr(key)[:40] for key in list(inner)[:8])
            _refuse(path, f"holds {len(inner)} state dicts ({names}), and which to take is not said")
        found = max([found, *inner.values()], key=len)
    if not found:
        _refuse(path, "holds no state dict (names with a tensor each)")
    if not all(isinstance(key, str) for key in found):
        _refuse(path, "has tensors whose name is not text")
    if len(found) > MAX_TENSORS:
        _refuse(path, f"has {len(found):,} tensors, more than any net")
    return found


def _state(path: Path, value: Any) -> dict[str, _Lazy]:
    """The tensors of a module, or of a dict most of whose entries are tensors; else none."""
    if isinstance(value, _Object) and value.is_module:
        return _of_module(path, value)
    entries = value if isinstance(value, dict) else {}
    found = {key: part for key, part in entries.items() if isinstance(part, _Lazy)}
    return found if 2 * len(found) > len(entries) else {}


def _of_module(path: Path, module: _Object) -> dict[str, _Lazy]:
    """Names and tensors of a module's state dict, in its order. A pickle may tie modules into rings and knots."""
    found: dict[str, _Lazy] = {}
    waiting, seen = [("", module)], 1
    while waiting:
        prefix, part = waiting.pop()
        own = part.attributes
        tensors = (*own["_parameters"].items(), *own["_buffers"].items())
        found |= {f"{prefix}{name}": tensor for name, tensor in tensors if isinstance(tensor, _Lazy)}
        inner = [(f"{prefix}{name}.", each) for name, each in own["_modules"].items()]
        seen += len(inner)
        if seen > MAX_TENSORS or len(prefix) > MAX_NAME:
            _refuse(path, f"has more than {MAX_TENSORS:,} modules, or one within itself")
        waiting += [(name, each) for name, each in reversed(inner) if isinstance(each, _Object) and each.is_module]
    return found


def _tensors(
    path: Path, names: dict[str, _Lazy], content: Callable[[_Storage], bytearray], size: int
) -> dict[str, Tensor]:
    """Fill the views, one storage after another; all are checked before the first is made."""
    for name, lazy in names.items():
        fault = lazy.fault()
        if fault:
            _refuse(path, f"the tensor {name[:200]!r} {fault}")
    needed = sum(lazy.numel * lazy.storage.dtype.itemsize for lazy in names.values())
    if needed > MAX_TIMES_SHARED * size:
        _refuse(path, f"has tensors of {needed:,} bytes in a file of {size:,}")
    of_storage: dict[_Storage, list[str]] = {}
    for name, lazy in names.items():
        of_storage.setdefault(lazy.storage, []).append(name)
    found: dict[str, Tensor] = {}
    for storage, users in of_storage.items():
        numbers = _numbers(content(storage), storage)
        for name in users:
            view = numbers.as_strided(names[name].shape, names[name].stride, names[name].offset)
            found[name] = view.clone(memory_format=torch.contiguous_format)
    return {name: found[name] for name in names}


def _numbers(data: bytearray, storage: _Storage) -> Tensor:
    if len(data) != storage.nbytes:
        raise ValueError(f"the storage {storage.key!r} is cut off")
    if not data:
        return torch.empty(0, dtype=storage.dtype)
    if storage.dtype == torch.bool:
        # Any byte but 0 and 1 would be no bool.
        return torch.frombuffer(data, dtype=torch.uint8) != 0
    return torch.frombuffer(data, dtype=storage.dtype)
