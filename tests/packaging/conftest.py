"""The wheel as `pip` sees it, installed once for each choice of extras."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from installation import ROOT, Environment, build


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree."""
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def wheel_names(wheel: Path) -> set[str]:
    """What the wheel puts into site-packages."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="session")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Environment]:
    """A function that installs the wheel with extras (`"[server]"`) into an environment of their own."""
    made: dict[str, Environment] = {}

    def install(extras: str) -> Environment:
        if extras not in made:
            made[extras] = Environment.create(tmp_path_factory.mktemp("environment"), f"{wheel}{extras}")
        return made[extras]

    return install
