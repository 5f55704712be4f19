"""Archives of torch packed again with other contents."""

import io
import zipfile

import torch

_WRITTEN_BY_ITSELF = (".data/serialization_id", "version", ".data/version", "byteorder")


def repack(data: bytes, change, **records: bytes) -> bytes:
    """The archive again, as torch's writer packs it.

    Args:
        data: an archive of torch.
        change: called with the name and content of each record, without the root; gives the new content or None.
        records: to be added.
    """
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        contents = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    changed = {name: change(name, content) for name, content in contents.items()} | records
    for name, content in changed.items():
        if content is not None and name not in _WRITTEN_BY_ITSELF:
            writer.write_record(name, content, len(content))
    writer.write_end_of_file()
    return buffer.getvalue()
