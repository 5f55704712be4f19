import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from registry.errors import MalformedArtifactError
from registry.formats.reader import read
from registry.formats.sharded import check_index, is_distributed_checkpoint, parse_index
from registry.formats.source import BytesSource

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def index(**weight_map):
    return json.dumps({"metadata": {"total_size": 16}, "weight_map": weight_map}).encode()


@pytest.fixture
def shards():
    def inspect(*names):
        data = safetensors.torch.save({name: torch.ones(1) for name in names})
        return read(BytesSource(data)).inspection

    return {ONE: inspect("a", "b"), TWO: inspect("c")}


def test_an_index_that_fits_its_shards_passes(shards):
    found = parse_index(index(a=ONE, b=ONE, c=TWO))
    assert found.shards == [ONE, TWO]
    check_index(found, shards)


def test_a_missing_shard_is_named(shards):
    with pytest.raises(MalformedArtifactError, match=TWO):
        check_index(parse_index(index(a=ONE, b=ONE, c=TWO)), {ONE: shards[ONE]})


def test_a_tensor_that_its_shard_lacks_is_named(shards):
    with pytest.raises(MalformedArtifactError, match="'d'"):
        check_index(parse_index(index(a=ONE, b=ONE, c=TWO, d=TWO)), shards)


def test_a_tensor_that_the_index_does_not_list_is_named(shards):
    with pytest.raises(MalformedArtifactError, match="'b in "):
        check_index(parse_index(index(a=ONE, c=TWO)), shards)


def test_a_tensor_in_two_shards_is_named(shards):
    doubled = {**shards, TWO: replace(shards[TWO], tensors=[*shards[TWO].tensors, *shards[ONE].tensors])}
    with pytest.raises(MalformedArtifactError, match="'a in model-00002"):
        check_index(parse_index(index(a=ONE, b=ONE, c=TWO)), doubled)


@pytest.mark.parametrize("shard", ["../x.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "", "a\\b", "a\0b"])
def test_a_shard_that_is_no_file_beside_the_index_is_refused(shard):
    with pytest.raises(MalformedArtifactError, match="no file beside it"):
        parse_index(index(a=shard))


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"weight_map": {}}', b'{"weight_map": []}', b'{"weight_map": {"a": 3}}', b"{" * 100],
)
def test_what_is_no_index_is_refused(data):
    with pytest.raises(MalformedArtifactError):
        parse_index(data)


def test_a_folder_of_a_distributed_checkpoint_is_recognised():
    assert is_distributed_checkpoint(["ckpt/.metadata", "ckpt/__0_0.distcp"])
    assert not is_distributed_checkpoint(["ckpt/.metadata", "ckpt/model.pt"])
    assert not is_distributed_checkpoint(["ckpt/__0_0.distcp"])
