"""Campaigns over copies of the reader, each in a fork of one process that has imported torch once.

A line of standard input is a list in JSON: the folder that holds the copy, and the options of the campaign. The
answer is a line: the exit status, and what the campaign printed.
"""

import json
import os
import sys
import traceback
from pathlib import Path

import numpy as np  # noqa: F401 - imported here, and not by each fork
import safetensors.torch  # noqa: F401 - likewise
import torch  # noqa: F401 - likewise


def main() -> None:
    """Run campaigns one after the other, until standard input ends."""
    assert "registry" not in sys.modules, "the reader is imported before its copies are"
    for line in sys.stdin:
        folder, *options = json.loads(line)
        printed = Path(folder) / "printed"
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _run(folder, options, printed)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status), printed.read_text()]) + "\n")
        sys.stdout.flush()


def _run(folder: str, options: list[str], printed: Path) -> None:
    """Take the place of the fork; the reader is found in the copy, and not where it is installed."""
    code = 2
    descriptor = os.open(printed, os.O_CREAT | os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        sys.path.insert(0, folder)
        sys.argv[1:] = options
        from fuzzing import campaign

        code = campaign.main()
    except Exception:  # noqa: BLE001 - a fork must not go on as its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
