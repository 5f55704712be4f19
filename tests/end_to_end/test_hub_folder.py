"""A real folder of the Hugging Face Hub: pushed whole, it comes back whole, and transformers opens it."""

import hashlib
from pathlib import Path

import pytest
import torch
from real_weights import hub_folder
from safetensors.torch import load_file
from support.service import running
from transformers import AutoModel

from weighbridge import Client, SkippedFilesWarning

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def digests(folder: Path) -> dict[str, str]:
    files = [each for each in folder.rglob("*") if each.is_file() and not each.name.startswith(".")]
    return {str(each.relative_to(folder)): hashlib.sha256(each.read_bytes()).hexdigest() for each in files}


def test_a_real_folder_comes_back_and_opens(tmp_path: Path) -> None:
    folder = hub_folder()
    with running(tmp_path) as service, Client(service.url, cache_dir=tmp_path / "cache", progress=False) as hub:
        with pytest.warns(SkippedFilesWarning, match=r"\.gitattributes"):
            version = hub.push("text/minilm", str(folder))
        assert (version.kind, version.trust, version.weights) == ("state_dict", "tensors", ["model.safetensors"])
        hub.download(version.reference, tmp_path / "back")
        pulled = hub.pull(version.reference)
    assert digests(tmp_path / "back") == digests(folder)
    expected = load_file(folder / "model.safetensors")
    assert pulled.keys() == expected.keys()
    assert all(torch.equal(pulled[name], tensor) for name, tensor in expected.items())
    opened = AutoModel.from_pretrained(tmp_path / "back").state_dict()
    assert torch.equal(opened["embeddings.word_embeddings.weight"], expected["embeddings.word_embeddings.weight"])
