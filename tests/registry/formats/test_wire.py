import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import MalformedArtifactError
from registry.formats.inspection import EntryRecord, Inspection, StorageRecord, TensorRecord
from registry.formats.wire import inspection_from_json, inspection_to_json, value_from_json, value_to_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("$int"), inner, max_size=3),
    max_leaves=10,
)


def through_json(document):
    return json.loads(json.dumps(document, allow_nan=False, ensure_ascii=False).encode())


def same(one, other):
    """Equality that takes NaN for NaN."""
    return repr(one) == repr(other)


@given(PLAIN)
def test_any_plain_value_comes_back(value):
    assert same(value_from_json(through_json(value_to_json(value))), value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 10**400, -(2**63) - 1, {"$float": "x"}, {"$dict": []}]
)
def test_what_json_lacks_comes_back(value):
    assert same(value_from_json(through_json(value_to_json(value))), value)


def test_a_value_nested_too_deep_is_refused():
    value = []
    for _ in range(100):
        value = [value]
    with pytest.raises(MalformedArtifactError, match="deep"):
        value_to_json(value)


def tensor(**changes):
    facts = {
        "name": "a.b",
        "path": ("a.b", 3),
        "part": None,
        "dtype": "float32",
        "shape": (2, 3),
        "stride": (3, 1),
        "storage_offset": 1,
        "storage_key": "0",
        "file_offset": 64,
        "nbytes": 24,
    }
    return TensorRecord(**{**facts, **changes})


def test_everything_that_a_reader_reports_comes_back():
    parts = {"scales": tensor(name="scales"), "zero_points": tensor(name="zero_points", dtype="int64")}
    inspection = Inspection(
        "torch-zip",
        "checkpoint",
        "code",
        1000,
        reasons=["why"],
        globals=["a.B"],
        foreign_globals=["a.B"],
        scalars={"loss": math.nan, "lr": [0.1, math.inf], "name": "x\n\u202e"},
        entries=[EntryRecord("e", ("e",), "p", "dict", {"$x": 1}), EntryRecord("f", ("f", 0), None, "object")],
        tensors=[
            tensor(),
            tensor(role="buffer", requires_grad=True, device="cuda:0", layout="sparse_coo", conj=True, neg=True),
            tensor(quantisation={"scheme": "per_tensor_affine", "scale": math.inf, "zero_point": 2}, components=parts),
            tensor(storage_key=None, file_offset=None),
        ],
        storages=[
            StorageRecord("0", 24, 64),
            StorageRecord("1", 8, None, "m/data/1", big_endian=True, location="cuda:0"),
        ],
        metadata={"": {"": {"version": 1}, "bn": {"version": 2}}},
        parts=["p"],
        file_metadata={"format": "pt"},
        unknown_records=["m/new"],
        sources={"a.B": "class B: ..."},
    )
    assert repr(inspection_from_json(through_json(inspection_to_json(inspection)))) == repr(inspection)


def test_names_that_are_no_valid_unicode_are_written_out():
    inspection = Inspection("torch-zip", "state_dict", "tensors", 1, tensors=[tensor(name="\ud800", path=("\ud800",))])
    (found,) = inspection_from_json(through_json(inspection_to_json(inspection))).tensors
    assert (found.name, found.path) == ("\\ud800", ("\\ud800",))


@pytest.mark.parametrize("document", [{}, {"format": "torch-zip"}, {"tensors": 3}])
def test_what_is_no_inspection_is_refused(document):
    with pytest.raises(MalformedArtifactError, match="no description"):
        inspection_from_json(document)
