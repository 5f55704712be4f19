"""Compiled programs tell where their source lay on the machine that saved them; whoever uploads one is told so."""

import io

import pytest
import small_nets
import torch
from torch import nn

from registry.formats.leaked_paths import has_paths
from registry.formats.reader import read
from registry.formats.source import BytesSource


def inspect(data):
    return read(BytesSource(data)).inspection


def saved(save):
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def traced(buffer):
    torch.jit.save(torch.jit.trace(nn.Conv2d(3, 4, 3).eval(), torch.ones(1, 3, 8, 8)), buffer)


def exported(buffer):
    torch.export.save(torch.export.export(small_nets.Net().eval(), (torch.ones(1, 3, 8, 8),)), buffer)


def frozen(buffer):
    module = torch.jit.trace(nn.Conv2d(3, 4, 3).eval(), torch.ones(1, 3, 8, 8))
    torch.jit.save(torch.jit.freeze(module), buffer)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # its files outlive it
@pytest.mark.parametrize("save", [traced, frozen, exported])
def test_a_compiled_program_says_that_it_carries_absolute_paths(save):
    said = " ".join(inspect(saved(save)).reasons)
    assert said.count("absolute paths of the machine that saved it") == 1
    assert small_nets.__file__ not in said


def test_what_carries_none_does_not_say_so():
    whole = saved(lambda file: torch.save(small_nets.Net(), file))
    assert "absolute paths" not in " ".join(inspect(whole).reasons)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'"stack_trace": "File \\"/home/ada/net.py\\", line 1"', True),
        (b"X\x12\0\0\0/home/ada lovelace/net.pyq\x05", True),
        (b"C:\\Users\\ada\\net.py", True),
        (b"torch/nn/functional.py", False),
        (b"https://example.org/net.py", False),
        (b"a / b  # see net.py", False),
        (b"/home/ada/net", False),
        (b"no.py " * 1000 + b"/home/ada/net.py", False),
        (b"", False),
    ],
)
def test_an_absolute_path_of_a_python_file_is_told_from_other_texts(text, found):
    assert has_paths([b"", text]) is found
