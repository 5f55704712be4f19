"""The section "Loading" of docs/client.md, run as it stands."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import ROOT
from support.service import Service
from torch import nn

from registry.client.client import Client


class DigitsNet(nn.Module):
    """A trunk and a head."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64))
        self.head = nn.Linear(64, classes)


@pytest.fixture
def hub(live_server: Service, tmp_path: Path) -> Iterator[Client]:
    with Client(live_server.url, cache_dir=tmp_path, progress=False) as client:
        yield client


def test_the_section_works_as_it_is_written(hub: Client, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "client.md").read_text()
    section = page.partition("\n## Loading\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(python|text)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert [language for language, _ in blocks] == ["python", "text", "python", "text", "python"]
    version = hub.push("vision/digits", DigitsNet())
    names: dict[str, Any] = {"hub": hub, "DigitsNet": DigitsNet, "module": DigitsNet(), "other": DigitsNet(3)}
    for language, text in blocks:
        if language == "python":
            exec(compile(text, "docs/client.md", "exec"), names)  # noqa: S102 - our own documentation
        else:
            assert capsys.readouterr().out == text.replace("vision/digits:1", version.reference)
