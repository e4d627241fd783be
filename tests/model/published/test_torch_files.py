"""Files of `torch.save` in both formats: as torch reads them; cut, damaged and foreign ones not."""

import io
import os
import zipfile
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from apdist.model.published.torch_files import read_checkpoint
from tests.model.published.test_pickles import Calls

WHOLE = torch.arange(12.0).view(3, 4)
TENSORS = {
    "plain": WHOLE,
    "turned": WHOLE.t(),
    "a part": WHOLE[1:, 2],
    "parameter": nn.Parameter(WHOLE + 0.5),
    "half": torch.ones(2).half(),
    "bfloat16": torch.tensor([1.5, 2.5]).bfloat16(),
    "double": torch.ones(2, 2).double(),
    "count": torch.tensor(7),
    "bytes": torch.arange(3, dtype=torch.uint8),
    "bools": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
}


def saved(content: Any, *, zipped: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_are_those_that_torch_reads(zipped: bool) -> None:
    content = {"state_dict": OrderedDict(TENSORS), "shape": WHOLE.shape, "epoch": 3, "x": {1}}
    content["state_dict"]._metadata = OrderedDict(version=1)  # type: ignore[attr-defined]
    found = read_checkpoint(saved(content, zipped=zipped), "it.pth")
    assert (found["shape"], found["epoch"], found["x"]) == ((3, 4), 3, {1})
    assert list(found["state_dict"]) == list(TENSORS)
    for name, tensor in TENSORS.items():
        got: Tensor = found["state_dict"][name].tensor()
        assert got.dtype == tensor.dtype
        assert torch.equal(got, tensor.detach())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_ends_anywhere_is_refused_in_one_line(zipped: bool) -> None:
    whole = saved({"a": WHOLE}, zipped=zipped)
    for length in (0, 1, 10, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        with pytest.raises(
            ValueError, match=r"it\.pth is no checkpoint of torch, or is cut"
        ) as cut:
            read_checkpoint(whole[:length], "it.pth")
        assert "\n" not in str(cut.value)


def other_zip(**entries: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in entries.items():
            archive.writestr(f"it/{name}", data)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n",
        b"\x89PNG\r\n\x1a\n",
        b"\x80\x02K\x01.",
        b"\x80\x02]q\x00.",
        other_zip(word=b"x"),
        other_zip(**{"data.pkl": b"\x80\x02"}),
    ],
)
def test_what_is_no_checkpoint_is_refused(data: bytes) -> None:
    with pytest.raises(
        ValueError, match=r"it\.pth is no checkpoint of torch, or is cut or damaged"
    ):
        read_checkpoint(data, "it.pth")


def test_a_zip_that_unfolds_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("it/data.pkl", b"\x80\x02}.")
        archive.writestr("it/data/0", bytes(1 << 20))
    with pytest.raises(ValueError, match="it/data.pkl is compressed"):
        read_checkpoint(file.getvalue(), "it.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_asks_for_code_is_refused_by_its_name(zipped: bool) -> None:
    for function, name in ((os.system, r"(posix|nt)\.system"), (eval, r"builtins\.eval")):
        data = saved({"a": WHOLE, "b": Calls(function, "1")}, zipped=zipped)
        with pytest.raises(ValueError, match=rf"^it\.pth asks for {name}; only tensors, numpy"):
            read_checkpoint(data, "it.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_refused_by_its_class(zipped: bool) -> None:
    with pytest.raises(ValueError, match=r"asks for torch\.nn\.modules\.linear\.Linear; only"):
        read_checkpoint(saved({"model": nn.Linear(2, 2)}, zipped=zipped), "it.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_numbers_that_were_changed_in_size_are_refused(zipped: bool) -> None:
    data = saved({"a": WHOLE}, zipped=zipped)
    assert data.count(b"K\x0c") == 1  # the number of numbers, 12, in the id of the storage
    if not zipped:
        with pytest.raises(ValueError, match="it ends within its numbers"):
            read_checkpoint(data.replace(b"K\x0c", b"K\x0d"), "it.pth")
        return
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    parts["data.pkl"] = parts["data.pkl"].replace(b"K\x0c", b"K\x0b")
    with pytest.raises(ValueError, match="a storage has 48 bytes, not 44"):
        read_checkpoint(other_zip(**parts), "it.pth")["a"].tensor()
