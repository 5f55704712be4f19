"""What a version says of the module that its weights are for: how it is built, what it takes, where it came from.

All of it is written by clients and read by clients; the service keeps it and never acts on it.
"""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from registry.fields import Number, Text, WireModel

Name = Annotated[Text, Field(min_length=1, max_length=500)]
"""A module's or tensor's name, or a glob over such names."""
Names = Annotated[list[Name], Field(max_length=1_000)]
Size = Annotated[int, Field(ge=1, le=1_000_000)]
Row = Annotated[int, Field(ge=0)]
Channels = Annotated[list[Number], Field(max_length=1_000)]


class Builder(WireModel):
    """How to make the module again: `timm:create_model` with `{"model_name": "resnet18"}`. Never run by the service."""

    callable: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$", max_length=300)]
    arguments: dict[str, JsonValue] = {}

    def makes_same_network(self, other: "Builder") -> bool:
        """Return whether two builders call the same function of a library, whatever its size and classes.

        `torchvision.models:resnet18` is `torchvision.models.resnet:resnet18`; of timm the name of the model counts.
        """
        mine, others = ((each.callable.partition(":"), each.arguments.get("model_name")) for each in (self, other))
        (library, _, name), model = mine
        (other_library, _, other_name), other_model = others
        same_library = library.partition(".")[0] == other_library.partition(".")[0]
        return same_library and (name, model) == (other_name, other_model)

    def __str__(self) -> str:
        name = self.arguments.get("model_name")
        return f"{self.callable}({name})" if name else self.callable


class PretrainedConfig(WireModel):
    """What the module takes and gives, in the terms of timm's `pretrained_cfg`.

    Attributes:
        num_classes: how many the head tells apart; 0 for a module without a head.
        classifier: names of the head's modules (`fc`); several where there are several heads.
        first_conv: names of the modules that the input enters.
        input_size: channels, height, width.
        mean: of the channels that inputs are normalised by, in units of inputs between 0 and 1.
        std: as `mean`.
        interpolation: that images are resized with (`bilinear`, `bicubic`).
        crop_pct: the share of the resized image's side that the centre crop keeps.
        class_names: in the order of the head's outputs.
    """

    num_classes: Annotated[int, Field(ge=0)] | None = None
    classifier: Names = []
    first_conv: Names = []
    input_size: tuple[Size, Size, Size] | None = None
    mean: Channels = []
    std: Channels = []
    interpolation: Annotated[Text, Field(max_length=50)] | None = None
    crop_pct: Annotated[float, Field(gt=0, le=10)] | None = None
    class_names: Annotated[list[Annotated[Text, Field(max_length=500)]], Field(max_length=25_000)] = []


class Recipe(WireModel):
    """How a version was fine-tuned, so that the next one can be: `requires_grad` is in no state_dict.

    Attributes:
        base: the reference that the weights came from.
        head: names of the modules that were new or replaced.
        frozen: globs over names of parameters that were not trained.
        rows: of partly frozen tensors, the frozen rows as half-open ranges.
        batch_norm: whether frozen BatchNorm stood in `eval` or went on counting in `train`.
        dropout: the same of Dropout below frozen modules.
    """

    base: Annotated[Text, Field(max_length=500)] | None = None
    head: Names = []
    frozen: Names = []
    rows: Annotated[dict[Name, list[tuple[Row, Row]]], Field(max_length=1_000)] = {}
    batch_norm: Literal["eval", "train"] = "eval"
    dropout: Literal["eval", "train"] = "train"


class Origin(WireModel):
    """Where weights that were imported came from.

    Attributes:
        source: as it can be imported again: `torchvision:resnet50/IMAGENET1K_V2`, `timm:resnet18.a1_in1k`, a URL.
        url: that the bytes were fetched from.
        license: as SPDX writes it, or as its publisher does.
        details: other things that the publisher says (`paper`, `revision`).
    """

    source: Annotated[Text, Field(max_length=2_000)]
    url: Annotated[Text, Field(max_length=2_000)] | None = None
    license: Annotated[Text, Field(max_length=200)] | None = None
    details: Annotated[dict[Name, Annotated[Text, Field(max_length=2_000)]], Field(max_length=50)] = {}
