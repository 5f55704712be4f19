"""A sharded model of 70 GB is inspected at the cost of its headers."""

import json
import struct
import subprocess
import sys

import pytest

SHARDS, SHARD_BYTES, TENSORS = 15, 4_700_000_000, 60
INSPECT = r"""
import re, sys, time
from pathlib import Path
from registry.formats.reader import read
from registry.formats.sharded import check_index, parse_index
from registry.formats.source import FileSource

started = time.process_time()
folder = Path(sys.argv[1])
index = parse_index((folder / "model.safetensors.index.json").read_bytes())
found = {}
for name in index.shards:
    with FileSource(folder / name) as source:
        found[name] = read(source).inspection
check_index(index, found)
tensors = sum(len(each.tensors) for each in found.values())
peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1]
print(tensors, sum(each.size for each in found.values()), time.process_time() - started, peak)
"""


def write_shard(path, names):
    """A safetensors file whose tensors are a hole: it takes a block of the disk."""
    each = SHARD_BYTES // len(names) // 2
    header = json.dumps(
        {
            name: {"dtype": "BF16", "shape": [each], "data_offsets": [2 * each * at, 2 * each * (at + 1)]}
            for at, name in enumerate(names)
        }
    ).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 2 * each * len(names))


@pytest.mark.slow
def test_seventy_gigabytes_in_shards_are_inspected_in_little_memory(tmp_path):
    weight_map = {}
    for number in range(SHARDS):
        shard = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        names = [f"model.layers.{number * 4 + at // 15}.part{at % 15}.weight" for at in range(TENSORS)]
        write_shard(tmp_path / shard, names)
        weight_map.update(dict.fromkeys(names, shard))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    done = subprocess.run(
        [sys.executable, "-c", INSPECT, str(tmp_path)], capture_output=True, text=True, check=True
    ).stdout.split()
    tensors, size, _, kilobytes = map(float, done)
    assert tensors == SHARDS * TENSORS
    assert size > 70_000_000_000
    assert kilobytes < 100_000
