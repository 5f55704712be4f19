"""Building what `pip` installs, and virtual environments that hold nothing else."""

import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
INSTALL_TIMEOUT_SECONDS = 300


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
        pip = [environment.program("python"), "-m", "pip", "--disable-pip-version-check", "install", "--no-compile"]
        command = [*pip, "--quiet", "-c", str(ROOT / "constraints.txt"), *requirements]
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


def bare_variables() -> dict[str, str]:
    """Return this process's variables without those that point Python or Weighbridge somewhere."""
    pointing = ("PYTHON", "VIRTUAL_ENV", "WEIGHBRIDGE_", "COV_")
    return {name: value for name, value in os.environ.items() if not name.startswith(pointing)}
