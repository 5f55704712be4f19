"""The README's commands, run as they stand against a real service."""

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import ROOT
from support.service import running

README = (ROOT / "README.md").read_text()
ADDRESS = "http://localhost:8000"


def blocks(*languages: str) -> list[tuple[str, str]]:
    """Return language and text of the README's fenced blocks in these languages, in order."""
    fenced = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [(language, text) for language, text in fenced if language in languages]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service of a user who has just installed everything and stands in an empty folder."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith("WEIGHBRIDGE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(home)
    with running(tmp_path) as service:
        monkeypatch.setenv("WEIGHBRIDGE_URL", service.url)
        yield service.url


def test_the_tour_works_as_it_is_written(url: str) -> None:
    tour = blocks("python", "sh")
    assert {language for language, _ in tour} == {"python", "sh"}
    names: dict[str, object] = {}
    for language, written in tour:
        text = written.replace(ADDRESS, url)
        if language == "python":
            exec(compile(text, "README.md", "exec"), names)  # noqa: S102 - our own README
        else:
            ran = subprocess.run(["bash", "-euo", "pipefail", "-c", text], capture_output=True, text=True, check=False)
            assert ran.returncode == 0, f"{text}\n{ran.stdout}\n{ran.stderr}"


def test_every_make_target_and_extra_that_the_readme_names_exists() -> None:
    console = "\n".join(text for _, text in blocks("console"))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"^make ([a-z-]+)", console, re.MULTILINE)) <= targets
    assert set(re.findall(r"\.\[(\w+)\]", console)) <= extras.keys()
