"""What members of wire documents are made of: bounded texts, keys and numbers, and the two kinds of document."""

import math
import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_KEY = re.compile(r"[\w./@:+ -]{1,200}")
MAX_DESCRIPTION = 20_000
MAX_TAGS = 200
MAX_METRICS = 1_000


def _check_key(key: str) -> str:
    if _KEY.fullmatch(key) is None:
        raise ValueError("use 1 to 200 letters, digits, spaces and `_ . / @ : + -`")
    return key


def _check_text(text: str) -> str:
    if "\0" in text:
        raise ValueError("text holds no NUL: not every database keeps it")
    text.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
    return text


def _check_finite(value: float) -> float:
    if math.isinf(value) or math.isnan(value):
        raise ValueError("this is no finite number")
    return value


Key = Annotated[str, AfterValidator(_check_key)]
Number = Annotated[float, AfterValidator(_check_finite)]
Text = Annotated[str, AfterValidator(_check_text)]
TagValue = Annotated[Text, Field(max_length=2_000)]
Description = Annotated[Text, Field(max_length=MAX_DESCRIPTION)]
Metrics = Annotated[dict[Key, Number], Field(max_length=MAX_METRICS)]
Tags = Annotated[dict[Key, TagValue], Field(max_length=MAX_TAGS)]


class WireModel(BaseModel):
    """Immutable, and closed to members that nobody defined."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AnswerModel(BaseModel):
    """What the service answers; a client ignores members that a newer service adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")
