"""What MLflow's own Python runs: pushes and pulls as MLflow's documentation tells its users, timed around the calls."""

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import mlflow  # noqa: E402 - it warns while it is imported
import torch  # noqa: E402 - likewise
import weights  # noqa: E402 - likewise
from mlflow.artifacts import download_artifacts  # noqa: E402 - likewise

state: dict[str, Any] = {}


def push(size_bytes: int, sync: bool) -> list[float]:  # noqa: FBT001 - given by name, as JSON
    """Save a state_dict to a file and log it as an artifact of a run; return seconds of clock and processors."""
    state["weights"] = weights.change(state.get("weights") or weights.make_state_dict(size_bytes))
    with tempfile.TemporaryDirectory(dir=".") as folder, mlflow.start_run() as run:
        state["run"] = run.info.run_id
        file = Path(folder, "model.pt")
        start = _clocks()
        torch.save(state["weights"], file)
        if sync:
            with file.open("rb") as written:
                os.fsync(written.fileno())
        mlflow.log_artifact(str(file))
        return _since(start)


def pull() -> list[float]:
    """Download the artifact that was pushed last into a new folder; return the seconds of clock and processors."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        start = _clocks()
        _download(folder)
        return _since(start)


def load(size_bytes: int) -> list[float]:
    """Download the artifact that was pushed last and load it into a module; return seconds likewise."""
    module = state.setdefault("module", weights.make_module(size_bytes))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        start = _clocks()
        file = _download(folder)
        module.load_state_dict(torch.load(file, weights_only=True))
        return _since(start)


def _download(folder: str) -> str:
    return download_artifacts(run_id=state["run"], artifact_path="model.pt", dst_path=folder)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(start: tuple[float, float]) -> list[float]:
    return [now - then for now, then in zip(_clocks(), start, strict=True)]


def main() -> None:
    """Answer a line of JSON after another, until there are no more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # MLflow prints about its runs
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        answers.write(json.dumps({"push": push, "pull": pull, "load": load}[verb](**arguments)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
