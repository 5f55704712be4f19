"""Lets `import torchvision` (hence timm) work where its compiled operators cannot be loaded.

The wheel on PyPI keeps them in a library that wants CUDA. Classification models never call them, but the import
registers shapes for two of them, and fails when nobody has declared these.
"""

import ctypes
import importlib.util
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []


def declare() -> None:
    """Declare the operators unless torchvision's own library can; harmless when called twice."""
    if _declared or _library_loads():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        library.define(schema)
    _declared.append(library)  # the declarations live as long as this object


def _library_loads() -> bool:
    found = importlib.util.find_spec("torchvision")
    for folder in (found.submodule_search_locations if found else None) or []:
        for library in Path(folder).glob("_C*"):
            try:
                ctypes.CDLL(str(library))
            except OSError:
                return False
            return True
    return False
