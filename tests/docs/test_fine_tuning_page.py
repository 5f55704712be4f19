"""docs/fine-tuning.md, its Python blocks run in order against a service of their own."""

import re
from pathlib import Path
from typing import Any

import pytest
from installation import ROOT
from support.service import running


def test_the_page_works_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "fine-tuning.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 8
    names: dict[str, Any] = {}
    with running(tmp_path) as service:
        monkeypatch.setenv("WEIGHBRIDGE_URL", service.url)
        monkeypatch.setenv("WEIGHBRIDGE_CACHE", str(tmp_path / "cache"))
        for text in blocks:
            exec(compile(text, "docs/fine-tuning.md", "exec"), names)  # noqa: S102 - our own documentation
    assert names["version"].recipe.head == ["fc"]
