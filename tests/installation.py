"""Building what `pip` installs, and virtual environments that hold nothing else."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSTALL_TIMEOUT_SECONDS = 300
START_TIMEOUT_SECONDS = 30
STOP_TIMEOUT_SECONDS = 15


def build(kind: str, source: Path, target: Path) -> Path:
    """Build a `wheel` or an `sdist` of the tree at `source` and return its path."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    (built,) = target.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment in `folder`."""

    folder: Path

    @classmethod
    def create(cls, folder: Path, *requirements: str) -> "Environment":
        """Make one and install requirements at the pinned versions."""
        venv.create(folder, with_pip=True)
        environment = cls(folder)
        pip = [
            environment.program("python"),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--no-compile",
            "-q",
        ]
        command = [*pip, "-c", str(ROOT / "constraints.txt"), *requirements]
        subprocess.run(command, env=bare_variables(), check=True, timeout=INSTALL_TIMEOUT_SECONDS)
        return environment

    def program(self, name: str) -> str:
        """Return the path of a command of it."""
        return str(self.folder / "bin" / name)

    def run(self, *command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command of it to its end."""
        return subprocess.run(
            [self.program(command[0]), *command[1:]],
            cwd=cwd, env={**bare_variables(), **variables}, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def has(self, module: str) -> bool:
        """Return whether `import module` would find something."""
        question = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        return self.run("python", "-I", "-c", question, cwd=self.folder).returncode == 0

    @contextmanager
    def serving(self, *command: str, cwd: Path, **variables: str) -> Iterator[str]:
        """Run a command of it that serves HTTP on a free port; yield its URL once it is healthy."""
        port = str(free_port())
        log = cwd / f"{port}.log"
        started = [self.program(command[0]), *command[1:]]
        variables = {**bare_variables(), **variables, "WEIGHBRIDGE_PORT": port}
        with log.open("wb") as output:
            process = subprocess.Popen(started, cwd=cwd, env=variables, stdout=output, stderr=output)
        try:
            wait_until_healthy(process, f"http://127.0.0.1:{port}", log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_SECONDS)


def wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Return when the service at `url` answers, raise with the end of its log when it does not."""
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=5).close()  # noqa: S310 - our own service on loopback
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"no service at {url} (exit status {process.poll()}):\n{log.read_text()[-3000:]}")


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def bare_variables() -> dict[str, str]:
    """Return this process's variables without those that point Python or Weighbridge somewhere."""
    pointing = ("PYTHON", "VIRTUAL_ENV", "WEIGHBRIDGE_", "COV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(pointing)}
