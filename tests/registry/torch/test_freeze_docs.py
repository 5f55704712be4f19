"""docs/freezing.md against what it describes."""

import re

from installation import ROOT

PAGE = (ROOT / "docs" / "freezing.md").read_text()


def test_every_block_of_the_page_runs_and_prints_what_stands_there(capsys) -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/freezing.md", "exec"), names)  # noqa: S102 - the page is ours
    (printed,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert printed in capsys.readouterr().out
