"""The documentation against what it describes."""

import re
from pathlib import Path

import pytest
from installation import ROOT

from api.__main__ import main as commands
from api.errors import status_of
from registry.errors import iter_error_classes

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ROOMS = ("api", "registry", "storage", "weighbridge")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_reached_from_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page.is_relative_to(ROOT / "docs")]
    assert [page for page in pages if page != "README.md" and f"]({page})" not in index] == []


def drawn_tree() -> set[str]:
    """Return the paths of the annotated tree in docs/README.md."""
    (tree,) = re.findall(r"^```text\n(.*?)^```", (ROOT / "docs" / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    paths: set[str] = set()
    parents: list[str] = []
    for line in tree.splitlines():
        found = re.match(r"((?:    )*)([\w./-]+)", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        parents[depth:] = [found[2]]
        paths.add("".join(parents))
    return paths


def test_everything_in_the_annotated_tree_exists() -> None:
    assert [path for path in drawn_tree() if not (ROOT / path).exists()] == []


def test_every_package_stands_in_the_annotated_tree() -> None:
    packages = {
        f"{path.parent.relative_to(ROOT).as_posix()}/" for room in ROOMS for path in (ROOT / room).rglob("__init__.py")
    }
    assert packages - drawn_tree() == set()


def test_every_admin_command_that_the_documentation_names_exists() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"(?:python -m api|weighbridge admin) ([a-z]+)", text))
    assert named - {"serve", "migrate"}
    assert named <= commands.commands.keys()


def test_every_error_code_is_documented_with_its_status() -> None:
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    assert documented == {error.code: str(status_of(error)) for error in iter_error_classes()}
