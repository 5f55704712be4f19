"""Where mutations start: the small files of the corpus."""

import warnings
from pathlib import Path

from corpus.archives import good_zip, legacy_pickles, legacy_stream, tar_bytes, tar_members
from corpus.harmless import harmless_cases
from corpus.hostile import hostile_cases

from fuzzing.small_programs import small_programs

LARGEST_BYTES = 2_500
_MARKER = "marker"
_MORE = 8
"""How often the smallest file of a kind counts."""
_PROGRAMS = ("torchscript-script", "export", "package")
_TRICKS = ("reduce", "inst", "stack-global", "GHSA-mxhj", "in-a-", "rebuild-from-type")
_TORCH_CANNOT = ("nested-tensor-legacy",)
"""torch reads these to something else at each run."""


def build_seeds() -> list[tuple[str, bytes]]:
    """Return names and bytes of files: small harmless ones, some hostile ones, and a program of each kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old kinds of files are made on purpose
        cases = [*harmless_cases(), *(case for case in hostile_cases() if case.name.startswith(_TRICKS))]
        built = [(case.name, case.build(_MARKER)) for case in cases]
    smallest = [("zip", good_zip()), ("legacy", legacy_stream(legacy_pickles())), ("tar", tar_bytes(tar_members()))]
    return [*smallest * _MORE, *small_programs() * _MORE] + [
        (name, data)
        for name, data in built
        if (len(data) <= LARGEST_BYTES or name in _PROGRAMS) and name not in _TORCH_CANNOT
    ]


def load_seeds(folder: Path | None) -> list[tuple[str, bytes]]:
    """Return the files of a folder that `save_seeds` wrote, or new ones."""
    if folder is None:
        return build_seeds()
    return [(path.name, path.read_bytes()) for path in sorted(folder.iterdir())]


def save_seeds(folder: Path) -> None:
    """Write the files that mutations start from into a folder."""
    for number, (name, data) in enumerate(build_seeds()):
        (folder / f"{number:04}-{name.replace('/', '_')}").write_bytes(data)
