"""Every example, run as a user runs it, against one service."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from installation import ROOT
from support.service import Service

EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py") if path.stem != "demo")


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 6


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", EXAMPLES)
def test_what_an_example_claims_is_so(name: str, live_server: Service, tmp_path: Path) -> None:
    variables = {
        **os.environ,
        "WEIGHBRIDGE_URL": live_server.url,
        "WEIGHBRIDGE_CACHE": str(tmp_path),
        # Two examples at a time on two cores: threads of one would only wait for those of the other.
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(ROOT / "examples" / f"{name}.py")]
    ran = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
