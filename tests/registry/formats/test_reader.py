import io
import pickle
import zipfile

import numpy as np
import pytest
import torch

from registry.errors import MalformedArtifactError, UnsafeArtifactError
from registry.formats.reader import HEAD_BYTES, detect, looks_like_weights, read
from registry.formats.source import BytesSource, FileSource

SAFETENSORS_HEAD = (2).to_bytes(8, "little") + b"{}"


@pytest.mark.parametrize(
    ("head", "size", "family"),
    [
        (b"PK\x03\x04...", 100, "zip"),
        (b"x" * 257 + b"ustar", 1000, "tar"),
        (SAFETENSORS_HEAD, 10, "safetensors"),
        (SAFETENSORS_HEAD, 9, None),
        ((100_000_001).to_bytes(8, "little") + b"{", 2**40, None),
        (b"\x80\x02", 100, "legacy"),
        (b"\x80\x05", 100, "legacy"),
        (b"\x80\x06", 100, None),
        (b"cos\nsystem\n", 100, "legacy"),
        (b"(dp0\n.", 100, "legacy"),
        (b"7z\xbc\xaf\x27\x1c", 100, None),
        (b"\x1f\x8b", 100, None),
        (b"\x93NUMPY", 100, None),
        (b"", 0, None),
    ],
)
def test_files_are_told_apart_by_their_content(head, size, family):
    assert detect(head, size) == family


def numpy_file():
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "Git LFS pointer, not the file"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"\n <html>", "web page"),
        (b"hello, I am a model\n", "text file"),
        ("grüße, ein Modell\n".encode(), "text file"),
        (b"cat\ndog\nbird\n", "text file"),
        (b"(c) 2024 Somebody. All rights reserved.\n", "text file"),
        (b"7z\xbc\xaf\x27\x1c\0\0", "7z archive"),
        (b"\x1f\x8b\x08\0\0", "gzip"),
        (numpy_file(), "numpy array"),
        (b"\0" * 5000, "zeros only"),
        (b"GGUF\3\0\0\0", "GGUF"),
        (b"\xde\xad\xbe\xef" * 10, "none that torch.save"),
    ],
)
def test_what_is_no_weight_file_is_called_what_it_is(data, says):
    with pytest.raises(MalformedArtifactError, match=says):
        read(BytesSource(data))


def test_a_zip_archive_of_something_else_is_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photos/a.txt", "hello")
    with pytest.raises(MalformedArtifactError, match="none that torch wrote"):
        read(BytesSource(buffer.getvalue()))


@pytest.mark.parametrize("zipped", [True, False])
def test_the_name_of_a_file_says_nothing(tmp_path, zipped):
    torch.save({"a": torch.ones(2)}, tmp_path / "model.dat", _use_new_zipfile_serialization=zipped)
    (tmp_path / "model.dat").rename(tmp_path / "model.safetensors")
    with FileSource(tmp_path / "model.safetensors") as source:
        assert read(source).inspection.format == ("torch-zip" if zipped else "torch-legacy")


@pytest.mark.parametrize(
    "head",
    [
        b"PK\x03\x04",
        SAFETENSORS_HEAD,
        pickle.dumps({"a": 1}, protocol=2),
        pickle.dumps(print, protocol=0),
        pickle.dumps({"a": [1, 2], "b": 3}, protocol=0),
        b"cos\nsystem\n(S'true'\ntR.",
        b"cos\nsystem\n(S'true'\ntRbroken",
        b"(S'true'\nios\nsystem\n.",
        b"(\x8c\x02os\x8c\x06system\x93.",
        pickle.dumps([complex(n) for n in range(1000)], protocol=0)[:HEAD_BYTES],
    ],
)
def test_weights_are_seen_whatever_their_name(head):
    assert looks_like_weights(head)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"(c) 2024 Somebody. All rights reserved.\n",
        b"(Very) short notes\nabout a model\n",
        b"cat\ndog\nbird\n",
        b"code\nweights\n\nThis model was trained ...\n",
        b'{"architectures": ["BertModel"]}',
        b"# A model card\n",
        b"\x08\x07\x12\x07pytorch",
        b"GGUF\3\0\0\0",
    ],
)
def test_texts_and_foreign_formats_are_no_weights(head):
    assert not looks_like_weights(head)


def test_a_text_pickle_that_would_run_something_is_unsafe():
    with pytest.raises(UnsafeArtifactError, match=r"os\.system"):
        read(BytesSource(b"cos\nsystem\n(S'true'\ntR."))
