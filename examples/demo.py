"""`make demo`: the main job done on real weights, told as a story. Ends with an error when a claim is false."""

import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from support import torchvision_operators
from support.service import Service, running
from support.story import ProofFailedError, chapter, code, prove, refused, say, shell, show

torchvision_operators.declare()

import timm  # noqa: E402 - imports torchvision, whose operators must be declared first
import torchvision  # noqa: E402 - as above

from weighbridge import (  # noqa: E402 - kept with its neighbours
    Client,
    MalformedArtifactError,
    ModelNotFoundError,
    TrustCodeRequiredError,
    UnsafeArtifactError,
)

WEIGHTS = Path(sys.prefix) / "weights"
SEED = 0


def main() -> int:
    """Tell the story in a temporary folder; return the exit status."""
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory(prefix="weighbridge-demo-") as name:
        folder = Path(name)
        os.environ["WEIGHBRIDGE_CACHE"] = str(folder / "cache")
        try:
            with running(folder) as service, Client(service.url, progress=False) as hub:
                tell(hub, service, folder)
        except ProofFailedError as failure:
            print(f"\n✗ {failure}", file=sys.stderr)
            return 1
    chapter("The end")
    say("The service is stopped and its folder is gone. `make serve` runs one that stays.")
    return 0


def tell(hub: Client, service: Service, folder: Path) -> None:
    """Tell all chapters in order."""
    say(f"A service is running at {service.url}; its data is in a folder that goes when the story ends.")
    trained = push_two_versions(hub, folder)
    look_at_them(service, folder)
    pull_and_load(hub, trained)
    resume_from_a_checkpoint(hub)
    whole_module(hub)
    a_published_file(hub, service, folder)
    harm(hub, folder)
    mistakes(hub, service, folder)


def push_two_versions(hub: Client, folder: Path) -> dict[int, dict[str, torch.Tensor]]:
    """Push a module, train it a little, push it again; return the weights by version number."""
    chapter("1. Two versions of one model")
    module = timm.create_model("test_resnet", num_classes=10)
    code('first = hub.push("vision/tiny", module, metrics={"top1": 0.11}, tags={"data": "noise"})')
    first = hub.push("vision/tiny", module, metrics={"top1": 0.11}, tags={"data": "noise"})
    before = copy(module.state_dict())
    train_a_step(module)
    code('second = hub.push("vision/tiny", module, metrics={"top1": 0.42}, base="vision/tiny:1", alias="prod")')
    second = hub.push("vision/tiny", module, metrics={"top1": 0.42}, base="vision/tiny:1", alias="prod")
    prove("the service numbers them 1 and 2", (first.number, second.number) == (1, 2))
    prove("how to build the module again was recorded with it", second.builder is not None)
    torch.save(module.state_dict(), folder / "model.pt")
    return {1: before, 2: copy(module.state_dict())}


def look_at_them(service: Service, folder: Path) -> None:
    """Inspect, list and show from the command line."""
    chapter("2. What is inside, without running it")
    table = shell("weighbridge", "inspect", "model.pt", cwd=folder, url=service.url, most_lines=20)
    prove("the table names the first convolution", "conv1" in table or "stem" in table)
    listed = shell("weighbridge", "list", cwd=folder, url=service.url)
    prove("the registry lists the model", "vision/tiny" in listed)
    shell("weighbridge", "show", "vision/tiny@prod", cwd=folder, url=service.url)


def pull_and_load(hub: Client, trained: dict[int, dict[str, torch.Tensor]]) -> None:
    """Pull by number and by alias, and load into a fresh module."""
    chapter("3. Back by version and by alias")
    code('hub.pull("vision/tiny:1")')
    prove("version 1 is tensor for tensor what was pushed", same(hub.pull("vision/tiny:1"), trained[1]))
    code('hub.pull("vision/tiny@prod")')
    pulled = hub.pull("vision/tiny@prod")
    prove("@prod is version 2", same(pulled, trained[2]))

    fresh = timm.create_model("test_resnet", num_classes=10)
    code("fresh.load_state_dict(pulled)")
    fresh.load_state_dict(pulled)
    prove("a fresh module holds it now", same(fresh.state_dict(), trained[2]))

    fresh.load_state_dict(hub.pull("vision/tiny@prod"), assign=True)
    train_a_step(fresh)
    prove("training on pulled weights changes nothing in the registry or the cache",
          same(hub.pull("vision/tiny@prod", verify=True), trained[2]))  # fmt: skip

    code('hub.alias("vision/tiny:1", "prod", reason="version 2 is biased")')
    hub.alias("vision/tiny:1", "prod", reason="version 2 is biased")
    moves = hub.alias_history("vision/tiny", "prod")
    show("\n".join(f"{move.moved_by}: {move.from_version} → {move.to_version} {move.reason}" for move in moves))
    prove("a rollback is one call, and the history says why", any("biased" in move.reason for move in moves))


def resume_from_a_checkpoint(hub: Client) -> None:
    """Push a checkpoint with an optimizer and get all of it back."""
    chapter("4. A training checkpoint")
    module = torchvision.models.squeezenet1_1(num_classes=10)
    optimizer = torch.optim.Adam(module.parameters())
    train_a_step(module, optimizer)
    checkpoint = {"epoch": 3, "loss": 1.25, "model": module.state_dict(), "optimizer": optimizer.state_dict()}
    code('hub.push("vision/squeezenet", {"epoch": 3, "loss": 1.25, "model": …, "optimizer": …})')
    version = hub.push("vision/squeezenet", checkpoint)
    prove("it is known as a checkpoint", version.kind == "checkpoint")
    restored = hub.pull_checkpoint(version.reference)
    prove("epoch and loss are back", (restored["epoch"], restored["loss"]) == (3, 1.25))
    moments = [state["exp_avg"] for state in checkpoint["optimizer"]["state"].values()]
    back = [state["exp_avg"] for state in restored["optimizer"]["state"].values()]
    prove("so is the optimizer, and no pickle was run for it", all(map(torch.equal, moments, back)))
    prove("pull gives the weights alone", same(hub.pull(version.reference), module.state_dict()))


def whole_module(hub: Client) -> None:
    """Push a full pickled module: its tensors are safe to pull, the object itself needs trust."""
    chapter("5. A full pickled module")
    module = torchvision.models.squeezenet1_1(num_classes=10)
    code('hub.push("vision/pickled", module, as_code=True)')
    version = hub.push("vision/pickled", module, as_code=True)
    prove("its trust is `code`", version.trust == "code")
    prove("its tensors come out without unpickling", same(hub.pull("vision/pickled"), module.state_dict()))
    code('hub.load_code("vision/pickled")')
    refused(lambda: hub.load_code("vision/pickled"), TrustCodeRequiredError)
    code('hub.load_code("vision/pickled", trust_code=True)')
    opened = hub.load_code("vision/pickled", trust_code=True)
    prove("who trusts it gets the very module", same(opened.state_dict(), module.state_dict()))


def a_published_file(hub: Client, service: Service, folder: Path) -> None:
    """Push a real weight file in the old format; get the same bytes back, by command line and by curl."""
    chapter("6. Somebody else's file, byte for byte")
    (wheel,) = WEIGHTS.glob("lpips-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (folder / "alex.pth").write_bytes(archive.read("lpips/weights/v0.1/alex.pth"))
    say("LPIPS, saved on a GPU by a torch of its time, in the format before zip:")
    shell("weighbridge", "push", "vision/lpips", "alex.pth", cwd=folder, url=service.url)
    shell("weighbridge", "download", "vision/lpips:1", "-o", "back", cwd=folder, url=service.url)
    pushed = (folder / "alex.pth").read_bytes()
    prove("the file is back, byte for byte", (folder / "back" / "alex.pth").read_bytes() == pushed)
    trusted = torch.load(folder / "alex.pth", weights_only=True, map_location="cpu")
    prove("and its tensors are what torch reads", same(hub.pull("vision/lpips"), trusted))
    if shutil.which("curl") is None:
        return
    address = f"{service.url}/api/v1/models/vision/lpips/upload/alex.pth?tag.by=curl"
    shell("curl", "-fsS", "-o", "answer.json", "-T", "alex.pth", address, cwd=folder, url=service.url)
    again = hub.show("vision/lpips:latest")
    prove("curl made version 2 of the same content", again.number == 2)
    prove("one content has one digest", again.artifacts[0].sha256 == hub.show("vision/lpips:1").artifacts[0].sha256)


class Harm:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Tell pickle to call `os.system`."""
        return os.system, (self.command,)


def harm(hub: Client, folder: Path) -> None:
    """Push a pickle that would run a command: it is refused, and it never ran."""
    chapter("7. A harmful file")
    mark = folder / "it-ran"
    torch.save({"weight": torch.zeros(3), "payload": Harm(f"touch {mark}")}, folder / "gift.pt")
    say("gift.pt looks like weights. Whoever opens it with torch.load(weights_only=False) runs a command.")
    code('hub.push("vision/gift", "gift.pt")')
    error = refused(lambda: hub.push("vision/gift", folder / "gift.pt"), UnsafeArtifactError)
    prove("the error names what it would have called", "system" in str(error) or "system" in str(vars(error)))
    prove("the command never ran", not mark.exists())
    prove("nothing was stored", "vision/gift" not in {model.full_name for model in hub.list()})


def mistakes(hub: Client, service: Service, folder: Path) -> None:
    """Mistype a name and push half a file: the errors say what to do."""
    chapter("8. Everyday mistakes")
    code('hub.pull("vision/tinny")')
    error = refused(lambda: hub.pull("vision/tinny"), ModelNotFoundError)
    prove("a wrong name is answered with the right one", "vision/tiny" in str(error))
    whole = (folder / "model.pt").read_bytes()
    (folder / "half.pt").write_bytes(whole[: len(whole) // 2])
    shell("weighbridge", "push", "vision/tiny", "half.pt", cwd=folder, url=service.url, expected_status=6)
    error = refused(lambda: hub.push("vision/tiny", folder / "half.pt"), MalformedArtifactError)
    prove("the error says that the file was cut off", "truncated" in str(error))
    prove("half a file makes no version", hub.show("vision/tiny").number == 2)


def train_a_step(module: torch.nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
    """Change every parameter of an image classifier a little, on noise."""
    optimizer = optimizer or torch.optim.SGD(module.parameters(), lr=0.1)
    images, labels = torch.randn(2, 3, 96, 96), torch.tensor([1, 2])
    module.train()
    torch.nn.functional.cross_entropy(module(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()


def copy(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a state_dict that later training does not change."""
    return {name: tensor.detach().clone() for name, tensor in state_dict.items()}


def same(left: Mapping[str, torch.Tensor], right: Mapping[str, torch.Tensor]) -> bool:
    """Return whether two state_dicts have the same names, in order, and equal tensors of equal dtypes."""
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


if __name__ == "__main__":
    sys.exit(main())
