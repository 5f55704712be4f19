"""A writer of the tar format of torch 0.1.9, after what `torch.load` still reads of it."""

import io
import pickle
import struct
import tarfile

import torch

SYSTEM = {"protocol_version": 1000, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def dumped(*values) -> bytes:
    return b"".join(pickle.dumps(each, protocol=2) for each in values)


def pack(members, *, kind=tarfile.REGTYPE) -> bytes:
    """The tar file of these members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.type = len(content), 1500000000.5, kind
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def members_of(value, *, window=None) -> dict[str, bytes]:
    """The members that torch 0.1.9 would write of a value; with `window` every storage is a part of a larger one.

    Args:
        value: holds tensors of the dtypes that torch 0.1.9 had, anywhere.
        window: how many elements the larger storages have before their parts begin.
    """
    writer = _Writer(window)
    pickled = writer.pickled(value)
    return {
        "sys_info": dumped(SYSTEM),
        "pickle": pickled,
        "tensors": dumped(len(writer.tensors)) + b"".join(writer.tensors),
        "storages": dumped(len(writer.storages)) + b"".join(writer.storages) + dumped(writer.views),
    }


class _Writer:
    def __init__(self, window) -> None:
        self.tensors: list[bytes] = []
        self.storages: list[bytes] = []
        self.views: list[tuple[int, int, int, int]] = []
        self._window = window
        self._known: dict[int, int] = {}
        self._alive: list[object] = []

    def pickled(self, value) -> bytes:
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer, protocol=2)
        pickler.persistent_id = self._identify
        pickler.dump(value)
        return buffer.getvalue()

    def _identify(self, value):
        return self._tensor(value) if isinstance(value, torch.Tensor) else None

    def _new_key(self, value) -> int:
        self._alive.append(value)
        return self._known.setdefault(id(value), 1 << 32 | len(self._known))

    def _tensor(self, tensor) -> int:
        if id(tensor) in self._known:
            return self._known[id(tensor)]
        storage = self._storage(tensor)
        key = self._new_key(tensor)
        numbers = (*tensor.shape, *tensor.stride(), tensor.storage_offset())
        kind = f"{tensor.storage().pickle_storage_type().removesuffix('Storage')}Tensor"
        self.tensors.append(
            _described(key, storage, kind) + struct.pack(f"<i4x{len(numbers)}q", tensor.dim(), *numbers)
        )
        return key

    def _storage(self, tensor) -> int:
        untyped = tensor.untyped_storage()
        known = self._known.get(untyped.data_ptr())
        if known is not None:
            return known
        key = self._known[untyped.data_ptr()] = 1 << 33 | len(self._known)
        self._alive.append(untyped)
        raw, before = bytes(untyped), (self._window or 0) * tensor.element_size()
        numel = len(raw) // tensor.element_size()
        root = key
        if self._window is not None:
            root = key + (1 << 40)
            self.views.append((key, root, self._window, numel))
        kind = tensor.storage().pickle_storage_type()
        total = numel + (self._window or 0)
        self.storages.append(_described(root, "cpu", kind) + struct.pack("<q", total) + bytes(before) + raw)
        return key


def _described(key, of, kind) -> bytes:
    """The pickle of `(key, of, torch.<kind>)`; the classes of tensors cannot be pickled any more."""
    start = pickle.dumps((key, of), protocol=2)
    head, tail = start[: start.rindex(b"\x86")], b"ctorch\n" + kind.encode() + b"\n\x87."
    return head + tail
