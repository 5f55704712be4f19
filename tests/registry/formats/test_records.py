"""Where a zip of `torch.save` holds storages, by its records alone: as the whole reader finds them."""

import io
import zipfile

import pytest
import safetensors.torch
import torch
import torchvision

from registry.formats.source import BytesSource
from registry.formats.torch_zip import find_records


def spans(inspection):
    return sorted((each.file_offset, each.nbytes) for each in inspection.storages if each.nbytes)


def found(data):
    return sorted(each for each in find_records(BytesSource(data)) if each[1])


@pytest.mark.parametrize("make", [torchvision.models.resnet18, lambda: torch.nn.LSTM(3, 5)])
def test_records_are_the_storages_of_a_state_dict(save, inspect, make):
    data = save(make().state_dict())
    assert found(data) == spans(inspect(data))


def test_records_are_the_storages_of_a_checkpoint(save, inspect):
    net = torch.nn.Linear(4, 3)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(4)).sum().backward()
    optimizer.step()
    data = save({"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3})
    assert found(data) == spans(inspect(data))


def packed(records, method=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in records.items():
            archive.writestr(f"m/{name}", content)
    return buffer.getvalue()


def test_storages_that_do_not_lie_in_the_file_as_in_memory_are_none_to_reuse():
    records = {"data.pkl": b"pickle", "data/0": b"storage", "data/words": b"no storage"}
    assert len(found(packed(records))) == 1
    assert found(packed({**records, "byteorder": b"big"})) == []
    assert found(packed(records, zipfile.ZIP_DEFLATED)) == []


def test_other_files_are_none(save):
    script = packed({"data.pkl": b"pickle", "constants.pkl": b"pickle", "data/0": b"storage"})
    tensors = {"w": torch.ones(3)}
    others = [script, safetensors.torch.save(tensors), save(tensors, zipped=False), b"PK", b""]
    assert [find_records(BytesSource(each)) for each in others] == [None] * len(others)
