import os
import pty
import re
import subprocess
import sys

CODE = """
from registry.client.progress import progress_bar
with progress_bar("pull vision/resnet50:3", {size}, wanted=None) as bar:
    for _ in range(4):
        bar.advance({size} // 4)
print("done")
"""


def on_a_terminal(size: int) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    command = [sys.executable, "-c", CODE.format(size=size)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment) as process:
        process.wait()
        os.write(theirs, b"\nend")
        os.close(theirs)
        said = b""
        while not said.endswith(b"end"):
            said += os.read(ours, 100_000)
        os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())


def test_a_terminal_shows_bytes_and_rate():
    said = on_a_terminal(64 << 20)
    assert "pull vision/resnet50:3" in said
    assert "64.0/64.0 MiB" in said
    assert re.search(r"iB/s", said)


def test_what_is_over_at_once_shows_no_bar():
    assert "pull" not in on_a_terminal(1 << 20)


def test_a_pipe_gets_no_bar():
    done = subprocess.run([sys.executable, "-c", CODE.format(size=64 << 20)], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"done\n", b"")
