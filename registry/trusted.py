"""Which libraries' builders are called without anybody saying that they are trusted: what they run is the library's."""

TRUSTED_LIBRARIES = frozenset({"torch", "torchvision", "timm", "transformers", "segmentation_models_pytorch"})
