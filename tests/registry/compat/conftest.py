import inspect
import shlex
import warnings
from collections import OrderedDict
from functools import cache

import pytest
import torch
from torch import nn


class Nested(nn.Module):
    """A user's network around somebody's backbone."""

    def __init__(self, backbone):
        super().__init__()
        self.encoder = backbone
        self.neck = nn.Conv2d(8, 8, 3)
        self.task_head = nn.Linear(8, 4)


class Pair(nn.Module):
    """Two networks of one architecture, as MoCo, teachers with students and Siamese networks have them."""

    def __init__(self, first, second):
        super().__init__()
        self.encoder_q = first
        self.encoder_k = second


def _arguments(words):
    return {key: _value(text) for key, _, text in (word.partition("=") for word in words)}


def _value(text):
    constants = {"None": None, "True": True, "False": False}
    return constants[text] if text in constants else int(text) if text.isdigit() else text


def _torchvision(name, **arguments):
    import torchvision

    if name.startswith(("fcn", "deeplab", "lraspp")):
        return getattr(torchvision.models.segmentation, name)(weights_backbone=None, **arguments)
    if "rcnn" in name or "retinanet" in name or "fcos" in name or name.startswith("ssd"):
        return getattr(torchvision.models.detection, name)(weights_backbone=None, **arguments)
    builder = getattr(torchvision.models, name)
    if "googlenet" in name or "inception" in name:
        arguments["init_weights"] = False
    return builder(**arguments)


def _timm(name, **arguments):
    import timm

    return timm.create_model(name, **arguments)


_TINY = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "vocab_size": 50,
    "max_position_embeddings": 24,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 2,
    "n_positions": 24,
    "d_model": 16,
    "d_ff": 32,
    "d_kv": 8,
    "num_layers": 2,
    "num_heads": 2,
    "num_key_value_heads": 1,
    "image_size": 32,
    "patch_size": 16,
    "pad_token_id": 0,
}


def _transformers(name, **arguments):
    import transformers

    kind = getattr(transformers, name)
    known = set(inspect.signature(kind.config_class.__init__).parameters) | set(vars(kind.config_class()))
    tiny = {key: value for key, value in _TINY.items() if key in known}
    parts = {part: _TINY for part in ("vision_config", "text_config") if part in known}
    return kind(kind.config_class(**(tiny | parts | arguments)))


def _segmentation(name, encoder, aux=None, **arguments):
    import segmentation_models_pytorch

    if aux is not None:
        arguments["aux_params"] = {"classes": aux}
    if name == "Unet" and "encoder_depth" in arguments:
        arguments["decoder_channels"] = (32, 16, 8, 4, 2)[: arguments["encoder_depth"]]
    return getattr(segmentation_models_pytorch, name)(encoder, encoder_weights=None, **arguments)


_LIBRARIES = {"tv": _torchvision, "timm": _timm, "hf": _transformers, "smp": _segmentation}


@cache
def build(description):
    """Return a module on the meta device: `tv resnet50 num_classes=10`, `smp Unet resnet18`, `nested tv resnet18`."""
    library, *words = shlex.split(description)
    if library in {"nested", "pair"}:
        inner = build(" ".join(words))
        return Nested(inner) if library == "nested" else Pair(inner, build(f"{' '.join(words)} "))
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        named = [word for word in words if "=" in word]
        return _LIBRARIES[library](*(word for word in words if "=" not in word), **_arguments(named))


def saved(description):
    """Return a state_dict as somebody saved it, as in `prefix module. tv resnet50` or `half tv resnet50`."""
    how, _, rest = description.partition(" ")
    return _HABITS[how](rest) if how in _HABITS else build(description).state_dict()


def _prefix(rest):
    prefix, _, rest = rest.partition(" ")
    return _renamed(saved(rest), lambda name: f"{prefix}{name}", lambda name: f"{prefix}{name}".strip("."))


def _compiled(rest):
    first = next(name for name, _ in build(rest).named_children())

    def rename(name):
        return name.replace(f"{first}.", f"{first}._orig_mod.", 1) if name.startswith(f"{first}.") else name

    return _renamed(saved(rest), rename, rename)


def _lightning(rest):
    state_dict = _prefix(f"model. {rest}")
    state_dict["criterion.weight"] = torch.empty(10, device="meta")
    return state_dict


def _averaged(rest):
    state_dict = _prefix(f"module. {rest}")
    state_dict["n_averaged"] = torch.empty((), dtype=torch.int64, device="meta")
    return state_dict


def _twins(rest):
    state_dict = _prefix(f"module. {rest}")
    state_dict.update(_prefix(f"model. {rest}"))
    return state_dict


def _student(rest):
    state_dict = saved(rest)
    state_dict.update(_prefix(f"ema. {rest}"))
    return state_dict


def _half(rest):
    state_dict = saved(rest)
    for name, value in state_dict.items():
        state_dict[name] = value.half() if value.is_floating_point() else value
    return state_dict


def _uncounted(rest):
    state_dict = saved(rest)
    return _kept(state_dict, [name for name in state_dict if not name.endswith("num_batches_tracked")])


def _part(rest):
    prefix, _, rest = rest.partition(" ")
    state_dict = saved(rest)
    return _kept(state_dict, [name for name in state_dict if name.startswith(prefix)])


_HABITS = {
    "prefix": _prefix,
    "compiled": _compiled,
    "lightning": _lightning,
    "averaged": _averaged,
    "twins": _twins,
    "student": _student,
    "half": _half,
    "uncounted": _uncounted,
    "part": _part,
    "plain": lambda rest: OrderedDict(saved(rest)),
    "sorted": lambda rest: OrderedDict(sorted(saved(rest).items())),
}
"""What people do before and after they save, by the first word of a description."""


def _kept(state_dict, names):
    kept = OrderedDict((name, state_dict[name]) for name in names)
    if hasattr(state_dict, "_metadata"):
        kept._metadata = state_dict._metadata
    return kept


def _renamed(state_dict, tensor_name, module_name):
    renamed = OrderedDict((tensor_name(name), value) for name, value in state_dict.items())
    renamed._metadata = OrderedDict((module_name(name), values) for name, values in state_dict._metadata.items())
    return renamed


@pytest.fixture(scope="session")
def zoo():
    """Real architectures without their weights, and state_dicts of them as people save them."""

    class Zoo:
        build = staticmethod(build)
        saved = staticmethod(saved)

    return Zoo
