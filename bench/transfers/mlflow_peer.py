"""MLflow as a peer: in a Python of its own, its tracking server with proxied artifacts, and its client in a process."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from support.service import free_port

from transfers.processes import stopped, wait_until_answered
from transfers.rounds import say
from transfers.workers import Worker

VERSION = "3.17"
NAME = f"MLflow {VERSION}"


class Mlflow:
    """An installed MLflow.

    Args:
        python: the interpreter that imports it.
    """

    def __init__(self, python: Path) -> None:
        self._python = python

    @classmethod
    def installed(cls, keep: Path) -> Self:
        """Return the one of a folder, which is installed there first if it is not yet.

        It sees the packages of this Python behind its own, so that both work with the same torch.
        """
        folder = keep / f"mlflow-{VERSION}"
        python = folder / "bin" / "python"
        done = folder / "installed"
        if not done.exists():
            say(f"Installing {NAME} into {folder} (some minutes, once)")
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            subprocess.run(
                [
                    python,
                    "-m",
                    "pip",
                    "--disable-pip-version-check",
                    "-q",
                    "install",
                    "--no-compile",
                    f"mlflow=={VERSION}.*",
                ],
                check=True,
            )
            site = subprocess.run(
                [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                check=True, capture_output=True, text=True,
            ).stdout.strip()  # fmt: skip
            Path(site, "torch-of-weighbridge.pth").write_text(sysconfig.get_path("purelib") + "\n")
            done.touch()
        return cls(python)

    @contextmanager
    def serving(self, folder: Path, *, workers: int | None = None) -> Iterator["MlflowServer"]:
        """Run a tracking server with SQLite and artifacts in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        url = f"http://127.0.0.1:{free_port()}"
        command = [
            self._python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", url.rpartition(":")[2],
            "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--serve-artifacts",
            "--artifacts-destination", folder / "artifacts", *(["--workers", str(workers)] if workers else []),
        ]  # fmt: skip
        log = folder / "server.log"
        with log.open("wb") as output:
            # A group of its own: the server starts its workers below a shell of its own.
            process = subprocess.Popen(
                command, cwd=folder, env=_quiet(), stdout=output, stderr=output, start_new_session=True
            )
        with stopped(process, group=True):
            wait_until_answered(process, f"{url}/health", log, seconds=180)
            yield MlflowServer(url, process.pid)

    def client(self, server: "MlflowServer", folder: Path) -> Worker:
        """Return a client process for a server, to be used as a context manager; it works in a folder."""
        command = [self._python, Path(__file__).with_name("mlflow_worker.py")]
        return Worker(NAME, command, folder, _quiet() | {"MLFLOW_TRACKING_URI": server.url}, server.pid)


@dataclass(frozen=True, slots=True)
class MlflowServer:
    """Where a tracking server listens, and its first process."""

    url: str
    pid: int


def post(url: str, path: str, body: Mapping[str, object]) -> Any:
    """Return the answer of MLflow's REST API."""
    request = urllib.request.Request(  # noqa: S310 - our own server on loopback
        f"{url}/api/2.0/mlflow/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - likewise
        return json.loads(answer.read())


def forget_artifacts(folder: Path) -> None:
    """Take away what earlier rounds stored in a server's folder."""
    shutil.rmtree(folder / "artifacts", ignore_errors=True)


def _quiet() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "MLFLOW_TRACKING_URI"}}
    return own | {
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
