"""What the wheel holds, and what it does not."""

import email
import re
import tarfile
import zipfile
from pathlib import Path

from installation import ROOT, build

HOMES = {"weighbridge": "weighbridge", "registry": "registry"} | {
    name: f"weighbridge/_server/{name}" for name in ("api", "storage")
}
EXTRAS = {"torch", "server", "oidc", "s3", "minio", "postgres", "dev"}


def metadata(wheel: Path) -> email.message.Message:
    """Return the wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return email.message_from_bytes(archive.read(name))


def test_only_weighbridge_and_registry_land_at_the_top_of_site_packages(wheel_names: set[str]) -> None:
    tops = {name.split("/")[0] for name in wheel_names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"weighbridge", "registry"}


def test_the_wheel_holds_every_file_of_the_four_packages_and_no_other(wheel_names: set[str]) -> None:
    expected = {
        f"{home}/{path.relative_to(ROOT / package)}"
        for package, home in HOMES.items()
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel_names if ".dist-info/" not in name} == expected


def test_both_importable_packages_say_that_they_are_typed(wheel_names: set[str]) -> None:
    assert {"weighbridge/py.typed", "registry/py.typed"} <= wheel_names


def test_the_wheel_carries_the_licence(wheel: Path, wheel_names: set[str]) -> None:
    assert metadata(wheel)["License-Expression"] == "Apache-2.0"
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel_names)


def test_the_wheel_offers_the_documented_extras(wheel: Path) -> None:
    assert set(metadata(wheel).get_all("Provides-Extra", [])) == EXTRAS


def test_only_the_torch_and_dev_extras_ask_for_torch(wheel: Path) -> None:
    requirements = metadata(wheel).get_all("Requires-Dist", [])
    asking = [line for line in requirements if re.match(r"(torch|timm|transformers)\b", line)]
    assert asking
    assert {re.search(r"extra == '(\w+)'", line)[1] for line in asking} == {"torch", "dev"}


def test_the_source_archive_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    archive = build("sdist", ROOT, tmp_path / "sdist")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()

    rebuilt = build("wheel", source, tmp_path / "wheel")

    with zipfile.ZipFile(wheel) as ours, zipfile.ZipFile(rebuilt) as theirs:
        assert {name: ours.read(name) for name in ours.namelist()} == {
            name: theirs.read(name) for name in theirs.namelist()
        }
