"""The source of classes that a legacy file brings along is kept to be read, and no more of it than a person reads."""

import inspect as python_inspect
import pickle
import struct

import pytest
import small_nets

from registry.formats.class_sources import MAX_BYTES, MAX_CLASS_BYTES
from registry.formats.legacy import MAGIC_NUMBER, PROTOCOL_VERSION

SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def text(value):
    return b"N" if value is None else b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def legacy(classes):
    """Return a legacy file that mentions classes of `mynet`: name → where its text lay, and the text."""
    body = b"".join(
        b"(" + text("module") + f"cmynet\n{name}\n".encode() + text(place) + text(source) + b"tQ"
        for name, (place, source) in classes.items()
    )
    plain = b"".join(pickle.dumps(each, 2) for each in (MAGIC_NUMBER, PROTOCOL_VERSION, SYSTEM))
    return plain + b"\x80\x02](" + body + b"e." + pickle.dumps([], 2)


def test_a_legacy_file_of_a_module_tells_its_classes_and_that_it_carries_paths(save, inspect):
    inspection = inspect(save(small_nets.Net(), zipped=False))
    assert inspection.sources["small_nets.Net"] == python_inspect.getsource(small_nets.Net)
    lines = python_inspect.getsource(small_nets.Net).count("\n")
    said = inspection.reasons[-1]
    assert "absolute paths of the machine that saved it" in said
    assert f"small_nets.Net ({lines} lines)" in said
    assert said.index("small_nets.Block") < said.index("torch.nn")
    assert str(python_inspect.getfile(small_nets)) not in said


def test_classes_without_a_text_or_a_place_say_nothing_of_it(inspect):
    inspection = inspect(legacy({"Net": ("net.py", None)}))
    assert (inspection.trust, inspection.sources) == ("code", {})
    assert not any("carries" in reason for reason in inspection.reasons)
    assert "It carries absolute paths" in inspect(legacy({"Net": ("C:\\ada\\net.py", None)})).reasons[-1]
    assert inspect(legacy({"Net": ("net.py", "class")})).reasons[-1] == (
        "It carries the source of its classes: mynet.Net (1 line)."
    )


@pytest.mark.parametrize("letter", ["x", "\N{GREEK SMALL LETTER ALPHA}", "\N{SNAKE}"])
def test_a_long_text_is_cut_to_its_bound_and_says_so(letter, inspect):
    source = letter * 100_000
    kept = inspect(legacy({"Net": ("net.py", source)})).sources["mynet.Net"]
    assert MAX_CLASS_BYTES - 10 < len(kept.encode()) <= MAX_CLASS_BYTES
    start, _, comment = kept.partition("\n# ")
    assert source.startswith(start)
    assert comment == "Cut here: the whole text has 100,000 characters.\n"


def test_many_texts_are_kept_up_to_a_bound_and_the_file_says_that_there_are_more(inspect):
    classes = {f"Net{number}": ("net.py", "y" * 60_000 + "\n") for number in range(40)}
    inspection = inspect(legacy(classes))
    kept = sum(len(name.encode()) + len(source.encode()) for name, source in inspection.sources.items())
    assert MAX_BYTES - 61_000 < kept <= MAX_BYTES
    assert len(inspection.foreign_globals) == 40
    assert inspection.reasons[-1].endswith("mynet.Net4 (1 line) and more that is not kept.")
    assert len(inspection.reasons[-1]) < 1000


def test_a_class_whose_name_is_longer_than_all_texts_may_be_is_left_out(inspect):
    inspection = inspect(legacy({"N" * (MAX_BYTES + 1): ("net.py", "class"), "Net": ("net.py", "class")}))
    assert inspection.sources == {"mynet.Net": "class"}
