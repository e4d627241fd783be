"""Pickles of strangers: what is admitted becomes inert data, everything else is refused by name."""

import copyreg
import io
import os
import pickle
import struct
from typing import Any

import numpy as np
import pytest
import torch

from apdist.model.published.pickles import RefusedError, StoredPCA, StoredTensor, Unpickler
from tests import published_models as published


class Calls:
    """Pickled, it has ``function`` called with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made_by = function, arguments

    def __reduce__(self) -> Any:
        return self.made_by


def read(data: bytes) -> Any:
    return Unpickler(io.BytesIO(data)).load()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


HARM = "touch /tmp/apdist-was-here"
PCA_NAME = b"csklearn.decomposition.pca\nPCA\n"
EXTENSION = 240
HARMFUL = {
    "GLOBAL and REDUCE": (b"cos\nsystem\n" + text(HARM) + b"\x85R.", "os.system"),
    "GLOBAL alone": (b"cbuiltins\neval\n.", "builtins.eval"),
    "its name in Python 2": (b"c__builtin__\neval\n.", "asks for builtins.eval"),
    "STACK_GLOBAL": (b"\x80\x04" + text("posix") + text("system") + b"\x93.", "posix.system"),
    "a name with dots": (
        b"\x80\x04" + text("torch") + text("Size.mro") + b"\x93.",
        "torch.Size.mro",
    ),
    "INST": (b"(S'x'\nios\nsystem\n.", "os.system"),
    "OBJ": (b"(cos\nsystem\n" + text(HARM) + b"o.", "os.system"),
    "NEWOBJ": (b"csubprocess\nPopen\n)\x81.", "subprocess.Popen"),
    "NEWOBJ_EX": (b"\x80\x04csubprocess\nPopen\n)}\x92.", "subprocess.Popen"),
    "EXT1": (b"\x80\x02\x82" + bytes([EXTENSION]) + b".", "os.system"),
    "PERSID": (b"Pmodule\n.", "persistent id of the kind 'module'"),
    "BINPERSID": (b"\x80\x02" + text("module") + b"\x85Q.", "persistent id of the kind 'module'"),
    "a storage where none can be": (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + b"tQ.",
        "persistent id of the kind 'storage'",
    ),
    "numpy's loader": (b"cnumpy\nload\n.", "numpy.load"),
    "torch's loader": (b"ctorch.storage\n_load_from_bytes\n.", "torch.storage._load_from_bytes"),
    "BUILD of a function": (b"ctorch._utils\n_rebuild_tensor_v2\n}b.", "to change a Admitted"),
    "BUILD with slots": (
        b"ctorch._utils\n_rebuild_tensor_v2\nN}" + text("_make") + b"Ns\x86b.",
        "to change a Admitted",
    ),
    "a PCA without a state": (
        PCA_NAME + b")\x81" + text("x") + b"b.",
        "a PCA whose state is a str",
    ),
    "objects in an array": (b"cnumpy\ndtype\n" + text("O8") + b"\x85R.", "numpy's type 'O8'"),
    "another class made as a PCA": (
        b"ccopyreg\n_reconstructor\nctorch\nSize\ncbuiltins\nobject\nN\x87R.",
        "asks to make a",
    ),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_what_asks_for_code_is_refused_by_name(name: str) -> None:
    data, message = HARMFUL[name]
    copyreg.add_extension("os", "system", EXTENSION)  # a program that reads a file may have some
    try:
        with pytest.raises(RefusedError) as refused:
            read(data)
    finally:
        copyreg.remove_extension("os", "system", EXTENSION)
    assert message in str(refused.value)
    assert not os.path.exists(HARM.split()[1])


def test_ids_of_other_things_than_storages_are_refused_where_storages_are_read() -> None:
    def storage(*_: Any) -> published.Memory:
        return published.Memory(torch.ones(1))

    for pid in (("module", "x"), ("storage", "x", "0"), "storage", ()):
        data = pickle.dumps(pid, 2)[:-1] + b"Q."
        with pytest.raises(RefusedError, match="persistent id of the kind|a storage of the type"):
            Unpickler(io.BytesIO(data), storage).load()


def test_a_call_inside_of_a_call_is_refused_before_either_is_made() -> None:
    inner = Calls(eval, "__import__('os').getpid()")
    for outer in ([inner], {"a": (1, inner)}, Calls(np.array, inner), Calls(getattr, inner, "x")):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(
                RefusedError, match=r"asks for \S+; only tensors, numpy arrays and PCA"
            ):
                read(pickle.dumps(outer, protocol))


def test_nothing_that_a_pickle_does_to_a_class_outlives_it() -> None:
    before = dict(vars(StoredPCA))
    with pytest.raises(Exception, match="."):
        read(PCA_NAME + b"}" + text("__init__") + b"Nsb.")
    with pytest.raises(Exception, match="."):
        read(PCA_NAME + b"N}" + text("__init__") + b"Ns\x86b.")
    assert dict(vars(StoredPCA)) == before


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_numbers_of_numpy_are_read(protocol: int) -> None:
    arrays = [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
        np.array(2.5, dtype=np.float16),
        np.zeros((0, 3), dtype=np.float32),
        np.array([True, False]),
    ]
    data = pickle.dumps([*arrays, np.float32(1.5), np.int64(-3), np.bool_(True)], protocol)
    *found, real, whole, flag = read(data)
    assert (real, whole, flag) == (1.5, -3, True)
    for array, got in zip(arrays, found, strict=True):
        expected = torch.from_numpy(
            np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
        )
        assert torch.equal(got.tensor(), expected.reshape(array.shape))


def test_arrays_of_older_and_newer_numpy_and_of_python_2_are_read() -> None:
    data = pickle.dumps(np.arange(3.0), 2)
    assert b"numpy._core" in data or b"numpy.core" in data
    for module in (b"numpy.core", b"numpy._core"):
        renamed = data.replace(b"numpy._core", module)
        assert read(renamed).tensor().tolist() == [0, 1, 2]
    raw = np.arange(3.0).tobytes()
    python_2 = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x03t"
        b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNK\xffK\xffK\x00tb\x89U\x18"
        + raw
        + b"tb."
    )
    assert read(python_2).tensor().tolist() == [0, 1, 2]


@pytest.mark.parametrize("module", ["sklearn.decomposition.pca", "sklearn.decomposition._pca"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pca_is_read_by_its_old_and_its_new_name(module: str, protocol: int) -> None:
    pca = published.a_pca(5, 3)
    with published.sklearn_named(module):
        data = pickle.dumps(pca, protocol)
    found = read(data)
    assert found.attributes["whiten"] is True
    assert found.attributes["noise_variance_"] == 0.5
    assert found.attributes["components_"].tensor().tolist() == pca.components_.tolist()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (3, 4), (4, 1)),
        (1, (3, 4), (4, 1)),
        (0, (13,), (1,)),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (1 << 40,), (0,)),
        (0, (2, 2), (1,)),
        (12, (0,), (1,)),
    ],
)
def test_a_tensor_that_does_not_lie_in_its_numbers_is_refused(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    numbers = torch.arange(12.0)
    stored = StoredTensor(published.Memory(numbers), offset, shape, strides)
    if (offset, shape) in ((0, (3, 4)), (12, (0,))):
        assert stored.tensor().tolist() == numbers.as_strided(shape, strides, offset).tolist()
        return
    with pytest.raises(ValueError, match="is said to lie in 12 numbers"):
        stored.tensor()
