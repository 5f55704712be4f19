"""JSON values changed in one place, and safetensors headers."""

import json
from random import Random
from typing import Any

_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, 2, 3, 4, -1, 1.0, 1.5, 1 << 31, 1 << 62, 1 << 64, 10**30, "", "w", "F32", "\ud800", "a\0b",
    [], {}, [[]], [0, 0], float("nan"), float("inf"), 7, "pt2", "../x",
)  # fmt: skip
_DTYPES = ("F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "C64", "F4", "F6_E2M3", "F64", "f32", "X")
_WIDTHS = (
    ("F32", 32), ("F16", 16), ("BF16", 16), ("I64", 64), ("U8", 8), ("BOOL", 8), ("F8_E4M3", 8), ("F8_E8M0", 8),
    ("C64", 64), ("F4", 4), ("F6_E2M3", 6), ("U16", 16), ("F64", 64),
)  # fmt: skip


def mutate_json(rng: Random, value: Any) -> Any:
    """Return a JSON value with one of its members another, gone, or twice."""
    path: list[tuple[Any, Any]] = []
    here = value
    while isinstance(here, dict | list) and here and (not path or rng.random() < 0.85):
        key = rng.choice(list(here)) if isinstance(here, dict) else rng.randrange(len(here))
        path.append((here, key))
        here = here[key]
    if not path:
        return rng.choice(_ODD)
    # What other samples share is never changed, only copies.
    holder, key = path.pop()
    changed = holder.copy()
    _change(rng, changed, key)
    for holder, key in reversed(path):
        outer = holder.copy()
        outer[key] = changed
        changed = outer
    return changed


def _change(rng: Random, holder: Any, key: Any) -> None:
    old, chance = holder[key], rng.random()
    if chance < 0.15:
        del holder[key]
    elif chance < 0.3 and isinstance(holder, dict):
        holder[rng.choice(("w", "extra", "a\nb", "", f"{key}x"))] = holder.pop(key)
    elif chance < 0.3:
        holder.insert(key, old)
    elif isinstance(old, int) and not isinstance(old, bool) and chance < 0.75:
        holder[key] = old + rng.choice((-2, -1, 1, 2, 4, 8, old))
    else:
        holder[key] = rng.choice(_ODD)


def mutate_header(rng: Random, header: dict[str, Any]) -> tuple[bytes, int | None]:
    """Return a safetensors header with one thing changed, and the length that it claims when that is another."""
    header = dict(header)
    tensors = [name for name in header if name != "__metadata__"]
    chance, length = rng.random(), None
    if tensors and chance < 0.5:
        name = rng.choice(tensors)
        header[name] = _other_entry(rng, header[name])
    elif tensors and chance < 0.6:
        one, other = rng.choice(tensors), rng.choice(tensors)
        header[one], header[other] = header[other], header[one]
    elif tensors and chance < 0.72:
        name = rng.choice(tensors)
        header[rng.choice((name, name, "x", "a\nb", f"{name}.running_mean"))] = _retyped(rng, header.pop(name))
    elif chance < 0.78:
        header["__metadata__"] = rng.choice(({}, {"format": "pt"}, {"a": 1}, [], {"a": "\ud800"}, {"": ""}))
    elif chance < 0.9:
        header = mutate_json(rng, header)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if chance > 0.95:
        text = _odd_text(rng, text)
    elif chance > 0.92:
        length = rng.choice((0, 1, len(text) - 1, len(text) + 1, 1 << 40))
    return text, length


def _other_entry(rng: Random, entry: Any) -> Any:
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        return mutate_json(rng, entry)
    entry = dict(entry)
    match rng.randrange(5):
        case 0:
            entry["dtype"] = rng.choice(_DTYPES)
        case 1 if isinstance(entry["shape"], list):
            entry["shape"] = rng.choice(
                (entry["shape"][::-1], [*entry["shape"], 1], [1, *entry["shape"]], [*entry["shape"], 0])
            )
        case 2:
            entry[rng.choice(("extra", "dtype"))] = rng.choice(_ODD)
        case _:
            return mutate_json(rng, entry)
    return entry


def _retyped(rng: Random, entry: Any) -> Any:
    """Return an entry that says of the same bytes that they are other numbers, in another shape."""
    if not isinstance(entry, dict) or not isinstance(entry.get("data_offsets"), list):
        return entry
    ends = [each for each in entry["data_offsets"] if type(each) is int]
    dtype, bits = rng.choice(_WIDTHS)
    count = 8 * (ends[-1] - ends[0]) // bits if ends else 0
    shape = rng.choice(([count], [1, count], [count // 2, 2], [count, 1, 1], [] if count == 1 else [count]))
    return {"shape": shape, "dtype": dtype, "data_offsets": entry["data_offsets"]}


def _odd_text(rng: Random, text: bytes) -> bytes:
    return rng.choice(
        (
            text + b" " * 7,
            b" " + text,
            text + b"\0",
            text[:-1],
            text[:-1] + b"," + text[1:],
            text.replace(b"[", b"[" * 70),
        )
    )
