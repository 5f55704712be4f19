"""The confined process that reads files says what reading them here says, of whole files and of broken ones."""

import io
import json

import pytest
import torch

from corpus.harmless import harmless_cases
from corpus.hostile import hostile_cases
from registry.errors import WeighbridgeError
from registry.formats.reader import read
from registry.formats.source import BytesSource
from registry.formats.wire import inspection_to_json
from storage.scanner import Scanner

pytestmark = pytest.mark.filterwarnings("ignore")

CASES = {case.name: case for case in (*harmless_cases(), *hostile_cases())}


@pytest.fixture(scope="module")
def scanner():
    with Scanner() as scanner:
        yield scanner


def told(look, data):
    """Return what `look` says of a file, be it a report or an error."""
    try:
        return json.dumps(inspection_to_json(look(BytesSource(data))), sort_keys=True)
    except WeighbridgeError as error:
        return error.code, error.detail, error.extra


@pytest.mark.parametrize("name", CASES)
def test_a_file_and_its_half_are_told_as_reading_them_here_tells_them(name, scanner):
    data = CASES[name].build("")
    for part in (data, data[: len(data) // 2]):
        assert told(scanner.scan, part) == told(lambda source: read(source).inspection, part)


def saved(lead):
    """Return a file of one tensor whose bytes begin with `lead`."""
    buffer = io.BytesIO()
    torch.save({"w": torch.frombuffer(bytearray(lead + b"1\nname\n" * 1000), dtype=torch.uint8)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("opcode", [bytes([number]) for number in range(256)], ids=lambda opcode: opcode.hex())
def test_half_a_file_is_told_whatever_its_weights_would_be_as_a_pickle(opcode, scanner):
    whole = saved(opcode)
    half = whole[: len(whole) - 3000]
    assert told(scanner.scan, half) == told(lambda source: read(source).inspection, half)
