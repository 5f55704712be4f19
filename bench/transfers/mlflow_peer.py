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
from types import TracebackType
from typing import Any, Self

from support.service import free_port

from transfers.processes import processor_seconds, stopped, wait_until_answered
from transfers.rounds import Spent, say

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

    def client(self, server: "MlflowServer", folder: Path) -> "MlflowClient":
        """Return a client process for a server, to be used as a context manager; it works in a folder."""
        return MlflowClient(self._python, server, folder)


@dataclass(frozen=True, slots=True)
class MlflowServer:
    """Where a tracking server listens, and its first process."""

    url: str
    pid: int


class MlflowClient:
    """Speaks to a process that runs `mlflow_worker`: a line of JSON there, a line of JSON back."""

    def __init__(self, python: Path, server: MlflowServer, folder: Path) -> None:
        self._server = server
        worker = Path(__file__).with_name("mlflow_worker.py")
        self._process = subprocess.Popen(
            [python, worker], cwd=folder, env=_quiet() | {"MLFLOW_TRACKING_URI": server.url},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with stopped(self._process):
            pass

    def spend(self, verb: str, **arguments: Any) -> Spent:
        """Return what the worker's function of that name cost it, and the server meanwhile.

        Raises:
            RuntimeError: it failed, and told why on the standard error.
        """
        before = processor_seconds(self._server.pid)
        assert self._process.stdin is not None  # noqa: S101 - as it was started
        assert self._process.stdout is not None  # noqa: S101 - as it was started
        self._process.stdin.write(json.dumps([verb, arguments]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client of {NAME} failed in {verb!r}")
        seconds, own = json.loads(line)
        return Spent(seconds, own + processor_seconds(self._server.pid) - before)


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
