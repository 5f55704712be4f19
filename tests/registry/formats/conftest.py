"""Reading what a test wrote, and torch's own view of the same, to compare with."""

import io

import pytest
import torch

from registry.formats.archive import Archive
from registry.formats.inspection import Document
from registry.formats.legacy import read_legacy
from registry.formats.limits import DEFAULT_LIMITS
from registry.formats.source import BytesSource
from registry.formats.torch_zip import read_torch_zip


def read_document(data: bytes) -> Document:
    source = BytesSource(data)
    if data[:4] == b"PK\x03\x04":
        return read_torch_zip(Archive.open(source, DEFAULT_LIMITS), source, DEFAULT_LIMITS)
    return read_legacy(source, DEFAULT_LIMITS)


def save_bytes(value, *, zipped: bool = True, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def read():
    """Bytes of a torch file → `Document`."""
    return read_document


@pytest.fixture(scope="session")
def inspect():
    """Bytes of a torch file → `Inspection`."""
    return lambda data: read_document(data).inspection


@pytest.fixture(scope="session")
def save():
    """What `torch.save` writes of a value, as bytes."""
    return save_bytes


@pytest.fixture(scope="session")
def assert_same_tensor():
    """Compare a record with the tensor it was read from: facts, and the very bytes of its storage."""

    def compare(record, tensor, inspection, data):
        assert record.dtype == str(tensor.dtype).removeprefix("torch.")
        assert record.shape == tuple(tensor.shape)
        assert record.stride == tuple(tensor.stride())
        assert record.storage_offset == tensor.storage_offset()
        assert record.requires_grad == tensor.requires_grad
        assert record.nbytes == tensor.numel() * tensor.element_size()
        storage = next(each for each in inspection.storages if each.key == record.storage_key)
        raw = data[storage.file_offset : storage.file_offset + storage.nbytes]
        view = torch.empty(0, dtype=torch.uint8).set_(tensor.detach().untyped_storage())
        assert raw == view.numpy().tobytes()
        assert record.file_offset == storage.file_offset + tensor.storage_offset() * tensor.element_size()

    return compare
