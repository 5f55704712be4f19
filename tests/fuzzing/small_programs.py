"""Archives that carry programs, with as little in them as their readers look at: mutations of small files hit more."""

import json
from typing import Any

from corpus.archives import FOUR_FLOATS, Record, good_zip, zip_bytes
from corpus.assembly import PROTO_2, STOP, called, named, tensor, text, value

_SOURCE = b"""class Net(Module):
  __parameters__ = ["w", ]
  __buffers__ = ["b", ]
  w : Tensor
  b : Tensor
  def forward(self: __torch__.Net, x: Tensor) -> Tensor:
    return torch.add(x, self.w)
"""


def small_programs() -> list[tuple[str, bytes]]:
    """Return names and bytes of a TorchScript archive, a `torch.export` archive and a `torch.package` archive."""
    return [
        ("small-torchscript", _archive(_torchscript())),
        ("small-export", _archive(_export())),
        ("small-package", _archive(_package())),
    ]


def _archive(records: dict[str, bytes]) -> bytes:
    return zip_bytes(
        [Record(f"m/{name}", content, 8 if name.endswith(".py") else 0) for name, content in records.items()]
    )


def _instance(name: str, state: bytes) -> bytes:
    """NEWOBJ of a class without arguments, and BUILD."""
    return named(name) + b")\x81" + state + b"b"


def _torchscript() -> dict[str, bytes]:
    numbers = called("torch.jit._pickle:build_intlist", [1, 2])
    below = _instance("__torch__:Net", b"}(" + text("w") + tensor() + text("training") + b"\x89u")
    state = text("w") + tensor() + text("b") + tensor() + text("sizes") + numbers + text("below") + below
    return {
        "data/0": FOUR_FLOATS,
        "data.pkl": PROTO_2 + _instance("__torch__:Net", b"}(" + state + b"u") + STOP,
        "code/__torch__.py": _SOURCE,
        "code/__torch__.py.debug_pkl": PROTO_2 + value((("FORMAT_WITH_STRING_TABLE", ("x",)),)) + STOP,
        "constants/0": FOUR_FLOATS,
        "constants.pkl": PROTO_2 + b"(" + tensor() + b"t" + STOP,
        "version": b"3\n",
        "byteorder": b"little",
    }


def _export() -> dict[str, bytes]:
    weights = {
        "w": _weight("weight_0", [2, 2], [2, 1], is_parameter=True),
        "b": _weight("weight_0", [2], [1], is_parameter=False),
    }
    constants = {
        "c": _weight("tensor_0", [4], [1], is_parameter=False),
        "o": {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None},
    }
    return {
        "data/weights/weight_0": FOUR_FLOATS,
        "data/weights/model_weights_config.json": json.dumps({"config": weights}).encode(),
        "data/constants/tensor_0": FOUR_FLOATS,
        "data/constants/opaque_obj_0": PROTO_2 + called("collections:OrderedDict") + STOP,
        "data/constants/model_constants_config.json": json.dumps({"config": constants}).encode(),
        "models/model.json": b'{"graph_module": {}}',
        "data/sample_inputs/model.pt": good_zip(),
        "archive_format": b"pt2",
        "archive_version": b"0",
        ".data/version": b"6\n",
        "byteorder": b"little",
    }


def _weight(record: str, shape: list[int], stride: list[int], *, is_parameter: bool) -> dict[str, Any]:
    meta = {
        "dtype": 7,
        "sizes": [{"as_int": each} for each in shape],
        "strides": [{"as_int": each} for each in stride],
        "storage_offset": {"as_int": 0},
        "requires_grad": is_parameter,
        "device": {"type": "cpu", "index": None},
        "layout": 7,
    }
    return {"path_name": record, "is_param": is_parameter, "use_pickle": False, "tensor_meta": meta}


def _package() -> dict[str, bytes]:
    rebuilt = value(("reduce_package", 1, named("torch.fx.graph_module:reduce_package_graph_module"), ("x",))) + b"Q"
    state = b"}(" + text("w") + tensor() + text("graph") + rebuilt + b"u"
    return {
        ".data/0.storage": FOUR_FLOATS,
        "model/model.pkl": PROTO_2 + _instance("torch.nn.modules.linear:Linear", state) + STOP,
        "model/net.py": b"class Net: ...\n",
        ".data/extern_modules": b"torch.nn.modules.linear\n",
        ".data/python_version": b"3.11.7",
        ".data/version": b"6\n",
        "byteorder": b"little",
    }
