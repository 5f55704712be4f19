"""The index against the truth: comparing with every architecture and every submodule finds the same ten."""

import hashlib
import math
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import timm
import torchvision
from actors import ADA
from known_networks import build_network

from registry.architecture import Architecture
from registry.compat.compare import compare
from registry.errors import AmbiguousPrefixError
from registry.schema import ArtifactInfo, VersionCreate
from registry.tensor_spec import TensorSpec
from storage.access import Caller
from storage.architectures import describe, encode_architecture
from storage.blobs.base import new_location
from storage.compatible import find_compatible
from storage.metadata.records import NewArchitectureUse, NewArtifact, NewVersion

VERDICTS = ("exact", "superset", "backbone", "partial")
COUNTER = "num_batches_tracked"
HEAVY = (
    "giant",
    "gigantic",
    "huge",
    "xlarge",
    "xxlarge",
    "cait",
    "coatnet_rmlp",
    "maxvit",
    "maxxvit",
    "xcit",
    "davit",
    "mvitv2",
)


def changed(architecture, *, prefix="", without=(), classes=None, beside=()):
    """Return an architecture nested, without some modules, with another number of classes, beside other tensors."""
    kept = (
        [spec for spec in architecture.tensors.values() if not spec.name.startswith(tuple(without))]
        if without
        else [*architecture.tensors.values()]
    )
    return Architecture(
        [
            TensorSpec(
                prefix + spec.name,
                (classes, *spec.shape[1:]) if classes and spec.shape[:1] == (1000,) else spec.shape,
                spec.dtype,
                spec.role,
            )
            for spec in kept
        ]
        + [TensorSpec(name, shape, "float32", "parameter") for name, shape in beside]
    )


DECODER = [("decoder.0.weight", (256, 512, 3, 3)), ("decoder.0.bias", (256,)), ("decoder.2.weight", (21, 256, 1, 1))]
TARGETS = {
    "plain": lambda: build_network("torchvision:resnet18"),
    "other classes": lambda: changed(build_network("torchvision:resnet18"), classes=10),
    "an encoder": lambda: changed(
        build_network("torchvision:resnet18"), prefix="encoder.", without=["fc."], beside=DECODER
    ),
    "DataParallel": lambda: changed(build_network("timm:vit_tiny_patch16_224"), prefix="module."),
    "two encoders": lambda: Architecture(
        spec
        for prefix in ("encoder_q.", "encoder_k.")
        for spec in changed(build_network("torchvision:resnet18"), prefix=prefix).tensors.values()
    ),
    "features only": lambda: changed(
        build_network("timm:mobilenetv3_small_100"), without=["conv_head.", "classifier."]
    ),
}
SLOW_TARGETS = {
    "segmentation": lambda: build_network("torchvision:deeplabv3_resnet50"),
    "other depth": lambda: build_network("timm:resnet26"),
    "other resolution": lambda: build_network("timm:vit_small_patch16_384"),
    "many relatives": lambda: build_network("timm:vit_small_patch14_reg4_dinov2"),
    "windows": lambda: build_network("timm:swin_tiny_patch4_window7_224"),
    "mobile": lambda: changed(build_network("timm:efficientnet_lite0"), prefix="net.body.", classes=3),
    "plain layers": lambda: build_network("torchvision:vgg11_bn"),
    "a hybrid": lambda: build_network("timm:vit_tiny_r_s16_p8_224"),
}


def publish(stores, number, architecture):
    location = new_location()
    stores.catalog.begin_write(location, "vision", "ada", datetime.now(UTC) + timedelta(hours=1))
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    info = ArtifactInfo(path="model.pt", size_bytes=1, sha256=f"sha256:{digest}", blake3=f"blake3:{digest}")
    uses = (NewArchitectureUse(describe(architecture)),)
    stores.catalog.publish(
        NewVersion(
            "vision", f"net{number}", ADA, VersionCreate(), (NewArtifact(info, location),), "state_dict", "tensors",
            ("model.pt",), None, digest, uses=uses,
        )
    )  # fmt: skip


def submodules(target):
    """Yield the name and architecture of the target, then of each submodule of three tensors that is like no other."""
    names = {"": None}
    for name in target.tensors:
        parts = name.split(".")
        names.update({".".join(parts[:at]): None for at in range(1, len(parts))})
    seen = set()
    for module in names:
        cut = len(module) + 1 if module else 0
        inside = [spec for spec in target.tensors.values() if not module or spec.name.startswith(f"{module}.")]
        content = frozenset((spec.name[cut:], spec.shape) for spec in inside)
        if not module or (sum(not spec.name.endswith(COUNTER) for spec in inside) >= 3 and content not in seen):
            seen.add(content)
            yield (
                module,
                Architecture(
                    TensorSpec(spec.name[cut:], spec.shape, spec.dtype, spec.role, spec.tie) for spec in inside
                ),
            )


def compare_with_first(source, inside):
    """Return the report; of renamings that are about as good, under the first; None when names fall together."""
    try:
        return compare(source, inside)
    except AmbiguousPrefixError as error:
        first = error.extra["candidates"][0]
    if isinstance(first, str):
        return None
    prefix = (first["strip"], first["add"])
    try:
        return compare(source, inside, prefix=prefix if any(prefix) else "")
    except AmbiguousPrefixError:
        return None


def shapes_of(architecture):
    """Return how often each last name has each shape: what two tensors have in common if one is to fill the other."""
    renamed = {"weight_g": "original0", "weight_v": "original1"}
    return Counter(
        (renamed.get(last, last), () if spec.shape == (1,) else spec.shape)
        for name, spec in architecture.tensors.items()
        if (last := name.rpartition(".")[2]) != COUNTER
    )


def can_count(have, want, total):
    """Return whether the shapes leave room for a tenth of the target's elements, or a quarter of the source's tensors.

    Without that no renaming whatever makes a placement that counts, and comparing would only take its time.
    """
    common = have & want
    elements = sum(count * math.prod(shape) for (_, shape), count in common.items())
    return elements >= 0.1 * total or common.total() >= 0.25 * have.total()


def find_by_looking_at_everything(architectures, target):
    """Return digest, place, verdict and score of the ten best, by the rule of the documentation and nothing else."""
    total = target.parameter_count
    places = [(module, inside, shapes_of(inside)) for module, inside in submodules(target)]
    found = []
    for digest, source in architectures.items():
        have = shapes_of(source)
        ranked = []
        for module, inside, want in places:
            report = compare_with_first(source, inside) if can_count(have, want, total) else None
            if report is None:
                continue
            share = round(report.coverage * inside.parameter_count / total, 6)
            score = round(report.score * inside.parameter_count / total * (0.5 if report.reasons else 1), 6)
            used = len(report.matched) / max(1, len(report.matched) + len(report.unexpected))
            near_miss = bool(report.reasons) and (bool(module) or score < 0.1)
            if report.verdict != "incompatible" and not near_miss and (share >= 0.1 or used >= 0.5):
                rank = (-score, VERDICTS.index(report.verdict), len(report.reasons), len(report.needs))
                ranked.append((rank, module))
        if ranked:
            best = min(rank for rank, _ in ranked)
            into, *others = [module for rank, module in ranked if rank == best]
            for module in others:
                into = module if not into or module.startswith(f"{into}.") else into
            found.append((*best, digest, into))
    return [(digest, into, VERDICTS[verdict], -score) for score, verdict, _, _, digest, into in sorted(found)[:10]]


def find_by_index(stores, target):
    matches = find_compatible(stores, Caller("tester", is_administrator=True), target)
    return [(match.architecture, match.into, match.verdict, match.score) for match in matches]


def fill(open_installation, names):
    stores = open_installation("one")
    architectures = {}
    for number, name in enumerate(names):
        try:
            architecture = build_network(name)
        except (NotImplementedError, RuntimeError):  # it computes with values as it builds
            continue
        publish(stores, number, architecture)
        architectures[encode_architecture(architecture)[0]] = architecture
    return stores, architectures


def test_the_index_finds_what_looking_at_some_networks_finds(open_installation):
    names = [f"timm:{name}" for name in timm.list_models("test_*")]
    names += ["torchvision:resnet18", "torchvision:resnet34", "timm:resnet18", "timm:resnet18d", "timm:resnet26"]
    names += ["timm:vit_tiny_patch16_224", "timm:vit_tiny_patch16_384", "timm:deit_tiny_patch16_224"]
    names += ["timm:mobilenetv3_small_100", "timm:mobilenetv3_small_075", "timm:seresnet18"]
    stores, architectures = fill(open_installation, names)
    for make in TARGETS.values():
        target = make()
        assert find_by_index(stores, target) == find_by_looking_at_everything(architectures, target)
    nothing = changed(build_network("timm:test_vit"), prefix="x.", classes=3)
    assert find_by_index(stores, nothing) == find_by_looking_at_everything(architectures, nothing)


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(7_200)
def test_the_index_finds_what_looking_at_a_thousand_networks_finds(open_installation):
    names = [f"torchvision:{name}" for name in torchvision.models.list_models(torchvision.models)]
    names += [f"timm:{name}" for name in timm.list_models() if not any(word in name for word in HEAVY)]
    stores, architectures = fill(open_installation, names)
    assert len(names) >= 1_000
    assert len(architectures) >= 900  # some have equal names and shapes, which is one architecture
    for make in (TARGETS | SLOW_TARGETS).values():
        target = make()
        assert find_by_index(stores, target) == find_by_looking_at_everything(architectures, target)
