"""Archives that carry programs, as torch writes them, some of their records put in by hand."""

import functools
import io
import warnings
import zipfile

import torch
from torch import nn

from corpus.archives import Record, zip_bytes


class Net(nn.Module):
    """A module with what modules have: parameters, buffers, a buffer that is not saved, an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Linear(4, 2, bias=False)
        self.shift = torch.ones(2)
        self.register_buffer("hidden", torch.zeros(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3))) + self.shift + self.hidden


@functools.cache
def script_bytes(how: str = "script") -> bytes:
    """Return what `torch.jit.save` writes of a scripted, traced or frozen module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is old on purpose here, and says so
        net = Net().eval()
        program = torch.jit.trace(net, torch.ones(1, 3, 8, 8)) if how == "trace" else torch.jit.script(net)
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.freeze(program) if how == "freeze" else program, buffer)
    return buffer.getvalue()


@functools.cache
def export_bytes() -> bytes:
    """Return what `torch.export.save` writes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.export.save(torch.export.export(Net().eval(), (torch.ones(1, 3, 8, 8),)), buffer)
    return buffer.getvalue()


@functools.cache
def package_bytes() -> bytes:
    """Return what `torch.package` writes of a module of torch's own classes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.package.PackageExporter(buffer) as exporter:
            exporter.extern("torch.**")
            exporter.save_pickle("model", "model.pkl", nn.Linear(4, 2))
    return buffer.getvalue()


def with_records(data: bytes, replaced: dict[str, bytes]) -> bytes:
    """Return a stored archive with these records (named without root) in the place of its own, or besides."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        root = names[0].partition("/")[0]
        contents = {name.partition("/")[2]: archive.read(name) for name in names}
    return zip_bytes([Record(f"{root}/{name}", content) for name, content in {**contents, **replaced}.items()])


def scripted(replaced: dict[str, bytes]) -> bytes:
    """Return a TorchScript archive with these records."""
    return with_records(script_bytes(), replaced)


def exported(replaced: dict[str, bytes]) -> bytes:
    """Return a `torch.export` archive with these records."""
    return with_records(export_bytes(), replaced)


def package(records: dict[str, bytes]) -> bytes:
    """Return a `torch.package` archive of these records, named with their root."""
    return zip_bytes([Record(name, content) for name, content in records.items()])
