"""The way to PyTorch: imported when a call needs it, with a named error where it is not installed."""

import importlib
from types import ModuleType

from registry.errors import ConfigurationError


def import_capture() -> ModuleType:
    """Return the module that makes files of live objects.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.capture", "Pushing a live object")


def import_load() -> ModuleType:
    """Return the module that makes tensors of files.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.load", "Pulling tensors")


def import_code() -> ModuleType:
    """Return the module that unpickles trusted files.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.code", "Opening a module")


def import_check() -> ModuleType:
    """Return the module that compares weights with a live module.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.check", "Checking against a module")


def import_load_into() -> ModuleType:
    """Return the module that fills modules.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.load_into", "Loading into a module")


def import_load_built() -> ModuleType:
    """Return the module that builds modules to be filled.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.load_built", "Building a module")


def import_freeze() -> ModuleType:
    """Return the module that freezes modules.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.freeze", "Freezing")


def import_recipe() -> ModuleType:
    """Return the module that reads and applies recipes.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.recipe", "Applying a recipe")


def import_finetune() -> ModuleType:
    """Return the module that prepares modules for fine-tuning.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.finetune", "Fine-tuning")


def import_architecture() -> ModuleType:
    """Return the module that says what live modules are made of.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.architecture", "Looking at a module")


def import_forward_summary() -> ModuleType:
    """Return the module that runs forward passes without values.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.summary", "Showing what layers put out")


def import_targets() -> ModuleType:
    """Return the module that builds modules without their weights.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.targets", "Building a module")


def import_pretrained() -> ModuleType:
    """Return the module that knows what modules and published weights say of themselves.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.pretrained", "Describing a module")


def import_published() -> ModuleType:
    """Return the module that knows what torchvision and timm have published.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.published", "Importing from a library of PyTorch")


def import_safetensors_writer() -> ModuleType:
    """Return the module that writes tensors as safetensors.

    Raises:
        ConfigurationError: PyTorch is not installed.
    """
    return _import("registry.torch.safetensors_file", "Gathering tensors")


def _import(name: str, what: str) -> ModuleType:
    # Imported by name: a static import here would put torch among what `import weighbridge` may load.
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"torch", "numpy"}:
            raise
        raise ConfigurationError(
            f"{what} needs PyTorch, which is not installed here: `pip install 'weighbridge[torch]'`. Pushing and "
            "downloading files works without."
        ) from error
