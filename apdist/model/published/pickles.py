"""Pickles of strangers, read into inert data: tensors, numpy arrays and PCA, and nothing else.

A pickle names functions and classes and has them called. Here every name that is admitted stands
for a class or function of this file, which keeps what it is given; what is not admitted is refused
by name. Nothing of torch, numpy or scikit-learn is called while a file is read, and nothing that
lives on can be changed by it: numbers are made of the bytes afterwards, by `tensor`.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor

ADMITTED = "only tensors, numpy arrays and PCA are admitted"


class RefusedError(ValueError):
    """The pickle asks for something that is not admitted; the message names it."""


class Storage(Protocol):
    """Numbers of one type that lie in the file."""

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers."""

    def numbers(self) -> Tensor:
        """All of them (n,)."""


class Inert:
    """What a pickle may make. Its state can be set by none but its own `__setstate__`."""

    def __setstate__(self, state: Any) -> NoReturn:
        raise RefusedError(f"asks to change a {type(self).__name__}; {ADMITTED}")


@dataclass(frozen=True, eq=False)
class StoredTensor(Inert):
    """A tensor that a pickle describes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def tensor(self) -> Tensor:
        """Its numbers.

        Raises:
            ValueError: they do not lie in the file.
        """
        numbers, shape, strides = self.storage.numbers(), self.shape, self.strides
        sound = len(shape) == len(strides) and min(self.offset, *shape, *strides, 0) == 0
        last = self.offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=False))
        size = torch.Size(shape).numel()
        # A step of 0 would make a tensor of any size of a single number.
        if not sound or size > len(numbers) or (size and last >= len(numbers)):
            raise ValueError(f"a tensor {shape} is said to lie in {len(numbers)} numbers")
        return numbers.as_strided(shape, strides, self.offset)


class StoredType(Inert):
    """A dtype of numpy, of plain numbers."""

    def __init__(self, code: Any = "", *_copy: Any) -> None:
        name = code.decode("latin1") if isinstance(code, bytes) else code
        if not isinstance(name, str) or name not in _NUMBERS:
            raise RefusedError(f"asks for numpy's type {name!r:.40}; plain numbers are admitted")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        """Take the order of bytes from what numpy keeps of a dtype."""
        if state[1] in (">", "<"):
            self.dtype = self.dtype.newbyteorder(state[1])


class StoredArray(Inert):
    """An array of numpy that a pickle describes."""

    def __init__(self, *_described: Any) -> None:
        self._array: np.ndarray[Any, Any] | None = None

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        """Take what numpy keeps of an array: version, shape, type, whether columns come first."""
        *_version, shape, kind, by_columns, data = state
        self._array = _array(data, kind, shape, "F" if by_columns else "C")

    @classmethod
    def of_buffer(cls, data: Any, kind: Any, shape: Any, order: Any) -> "StoredArray":
        """An array as protocol 5 keeps it."""
        found = cls()
        found._array = _array(data, kind, shape, order)
        return found

    def tensor(self) -> Tensor:
        """Its numbers.

        Raises:
            ValueError: the file never gave them.
        """
        if self._array is None:
            raise ValueError("an array has no numbers")
        return torch.from_numpy(self._array)


class StoredPCA(Inert):
    """What a PCA of scikit-learn has learned, by the names of its attributes."""

    attributes: dict[str, Any]

    def __new__(cls, *_options: Any) -> "StoredPCA":
        """An empty one; a pickle makes objects without `__init__`."""
        made = super().__new__(cls)
        made.attributes = {}
        return made

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        """Keep the attributes."""
        if not isinstance(state, dict):
            raise RefusedError(f"has a PCA whose state is a {type(state).__name__}")
        self.attributes |= state


class StoredDict(dict[Any, Any], Inert):
    """A dict that remembers the order of its keys, as all do now."""

    def __setstate__(self, state: Any) -> None:  # type: ignore[override]
        """Pass over what torch keeps beside the parameters of a state dict."""


@dataclass(frozen=True, eq=False)
class StorageType(Inert):
    """The name of a torch storage in a pickle: the type of its numbers."""

    dtype: torch.dtype


class Admitted(Inert):
    """A function that a pickle may call."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        """What it makes of the ``arguments``."""
        return self._make(*arguments)


class Unpickler(pickle.Unpickler):
    """Reads one pickle of ``file``.

    Args:
        file: of bytes, at the pickle's first.
        storage: what to make of the persistent id of a storage: its type, key and size, and more.

    Raises:
        RefusedError: a name or an id that is not admitted.
    """

    def __init__(self, file: IO[bytes], storage: Callable[..., Storage] | None = None) -> None:
        # Python 2 wrote bytes as text: latin1 keeps them.
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """What stands for ``module.name``.

        Raises:
            RefusedError: nothing does.
        """
        if module in ("torch", "torch.cuda") and name in _STORAGES:
            return StorageType(_STORAGES[name])
        module = _renamed(module)
        found = _NAMES.get((module, name))
        if found is None:
            raise RefusedError(f"asks for {module}.{name}; {ADMITTED}")
        return found if found is StoredPCA else Admitted(found)  # objects are made of a class

    def persistent_load(self, pid: Any) -> Storage:
        """The storage of that id.

        Raises:
            RefusedError: it is of another kind.
        """
        kind, *rest = pid if isinstance(pid, tuple) and pid else (pid,)
        if kind != "storage" or self._storage is None:
            raise RefusedError(f"has a persistent id of the kind {kind!r:.40}; {ADMITTED}")
        own, *others = rest or (None,)
        if not isinstance(own, StorageType):
            raise RefusedError(f"has a storage of the type {own!r:.40}; {ADMITTED}")
        return self._storage(own.dtype, *others)


def _array(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(kind, StoredType) or order not in ("C", "F"):
        raise ValueError("an array without a type")
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    native = np.frombuffer(raw, kind.dtype).astype(kind.dtype.newbyteorder("="))
    return native.reshape(shape, order=order)


def _scalar(kind: Any, data: Any) -> Any:
    """A single number of numpy, as one of Python."""
    return _array(data, kind, (), "C").item()


def _tensor(storage: Storage, offset: int, shape: Any, strides: Any, *_more: Any) -> StoredTensor:
    """What `torch._utils._rebuild_tensor_v2` is given; gradients and hooks are passed over."""
    return StoredTensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _reconstructed(kind: Any, *_base: Any) -> Any:
    """An object of ``kind`` as protocol 0 and 1 make it."""
    if not (isinstance(kind, type) and issubclass(kind, StoredPCA)):
        raise RefusedError(f"asks to make a {kind!r:.40}; {ADMITTED}")
    return kind()


def _renamed(module: str) -> str:
    """The module as newer versions name it: Python 3, numpy 2, scikit-learn from 0.22 on."""
    if module.startswith("numpy.core"):
        return module.replace("numpy.core", "numpy._core")
    return {
        "sklearn.decomposition.pca": "sklearn.decomposition._pca",
        "__builtin__": "builtins",
        "copy_reg": "copyreg",
    }.get(module, module)


_NUMBERS = frozenset(["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"])
_STORAGES = {
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
_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
    ("torch", "Size"): lambda sizes=(): tuple(sizes),
    ("collections", "OrderedDict"): StoredDict,
    ("numpy", "ndarray"): StoredArray,  # only ever an argument of _reconstruct
    ("numpy", "dtype"): StoredType,
    ("numpy._core.multiarray", "_reconstruct"): StoredArray,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): StoredArray.of_buffer,
    ("sklearn.decomposition._pca", "PCA"): StoredPCA,
    ("_codecs", "encode"): lambda text, *_: text.encode("latin1"),
    ("copyreg", "_reconstructor"): _reconstructed,
    ("builtins", "bytes"): lambda: b"",  # as protocol 2 has no bytes
    ("builtins", "object"): object,  # only ever an argument of _reconstructor
    ("builtins", "set"): lambda items=(): set(items),
}
