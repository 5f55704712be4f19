"""The Dockerfile, linted, and its very steps done in a folder instead of a container."""

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from installation import ROOT, bare_variables
from support.service import free_port

TOKEN = "a-token-for-the-test-of-the-image"
START_TIMEOUT_SECONDS = 30


@dataclass
class Image:
    """What the instructions of a Dockerfile made under `root`."""

    root: Path
    port: int
    environment: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def translate(self, text: str) -> str:
        """Return an instruction with its absolute paths under `root`, on this Python, at a free port."""
        text = re.sub(r"(?<![\w./$])/(src|wheels|opt|data)\b", lambda found: f"{self.root}/{found[1]}", text)
        text = text.replace("python3.11", f"python{sys.version_info.major}.{sys.version_info.minor}")
        return text.replace("8000", str(self.port))

    def follow(self, name: str, rest: str) -> None:
        """Do what one instruction says."""
        match name:
            case "COPY" if not rest.startswith("--from"):
                *sources, target = rest.split()
                for source in sources:
                    copy(ROOT / source, self.root / "src" / target)
            case "ENV":
                for pair in shlex.split(rest):
                    key, _, value = pair.partition("=")
                    self.environment[key] = value.replace("$PATH", bare_variables()["PATH"])
            case "RUN":
                self.run_step(rest)
            case "HEALTHCHECK":
                self.healthcheck = json.loads(rest.partition("CMD")[2])
            case "ENTRYPOINT" | "CMD":
                self.command += json.loads(rest)
            case _:
                pass  # users, volumes and ports are the engine's

    def run_step(self, line: str) -> None:
        """Run the command of a `RUN` where the build stage works."""
        path = f"{Path(sys.executable).parent}:{bare_variables()['PATH']}"
        variables = {**bare_variables(), **self.environment, "PATH": path}
        subprocess.run(line, shell=True, cwd=self.root / "src", env=variables, check=True, timeout=300)  # noqa: S602 - as an engine does

    def variables(self) -> dict[str, str]:
        """Return what a process of the final stage sees: no home, as its user has none."""
        return {**self.environment, "HOME": "/nonexistent"}


def copy(source: Path, target: Path) -> None:
    """Copy a folder, or a file into a folder."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def iter_instructions() -> Iterator[tuple[str, str]]:
    """Yield the name and the rest of each instruction, on one line each."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.strip().partition(" ")
        if name:
            yield name, rest


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What the Dockerfile makes."""
    made = Image(tmp_path_factory.mktemp("image"), free_port())
    for name, rest in iter_instructions():
        if name == "FROM":
            made.environment.clear()
        made.follow(name, made.translate(rest))
    return made


@pytest.fixture
def running(image: Image) -> Iterator[str]:
    """The URL of the image's own command, once the image's own health check passes."""
    variables = {**image.variables(), "WEIGHBRIDGE_TOKEN": TOKEN}
    process = subprocess.Popen(image.command, env=variables, cwd=image.root / "data")
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    try:
        while subprocess.run(image.healthcheck, env=variables, capture_output=True, check=False).returncode != 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{image.port}"
    finally:
        process.terminate()
        # uvicorn shuts down in order, then lets the signal have its way.
        assert process.wait(15) in {0, -signal.SIGTERM}


def status(url: str, **headers: str) -> int:
    """Return the status of a GET."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:  # noqa: S310 - our own service on loopback
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    ran = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (0, "")


def test_every_image_that_the_dockerfile_starts_from_has_a_version() -> None:
    bases = [rest.split()[0] for name, rest in iter_instructions() if name == "FROM"]
    assert bases
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+", base) for base in bases)


def test_the_image_runs_as_nobody_in_particular() -> None:
    users = [rest for name, rest in iter_instructions() if name == "USER"]
    assert users == ["10001:10001"]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("image")
def test_the_image_serves_behind_its_token_and_holds_no_torch(image: Image, running: str) -> None:
    packages = {path.name for path in (image.root / "opt").glob("weighbridge/lib/*/site-packages/*")}
    assert {"fastapi", "boto3", "minio", "psycopg"} <= packages
    assert "torch" not in packages
    assert status(f"{running}/api/v1") == 401
    assert status(f"{running}/api/v1", Authorization=f"Bearer {TOKEN}") == 200


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("image")
def test_the_running_image_writes_nothing_outside_its_volume(image: Image, running: str) -> None:
    before = {path for path in image.root.rglob("*") if image.root / "data" not in path.parents}
    assert status(f"{running}/readyz") == 200
    assert status(f"{running}/docs") == 200
    after = {path for path in image.root.rglob("*") if image.root / "data" not in path.parents}
    assert after == before


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.xdist_group("image")
def test_the_image_refuses_to_listen_everywhere_without_a_token(image: Image) -> None:
    ran = subprocess.run(
        image.command,
        env=image.variables(), cwd=image.root / "data", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode != 0
    assert "WEIGHBRIDGE_TOKEN" in ran.stdout + ran.stderr
