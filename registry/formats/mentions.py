"""What is told of the classes and functions that a file refers to: sorted, bounded, torch's own ones apart."""

from collections.abc import Iterable, Sequence

from registry.formats.allow_list import is_framework
from registry.formats.display import MAX_CHARACTERS, quote_name

MAX_GLOBALS = 200
"""Names that travel with an artifact; its manifest has them all."""
MAX_REASONS = 20
MAX_REASON_CHARACTERS = 8_000
"""Of the longest sentence that a reader writes: twenty names."""
_NAMED = 20


def is_marked(name: str) -> bool:
    """Return whether a class or function is to be looked at: it belongs neither to `torch.nn` nor to `torch.optim`."""
    return not is_framework(name)


def marked(names: Iterable[str]) -> list[str]:
    """Return, in order, those names that belong neither to `torch.nn` nor to `torch.optim`."""
    return [name for name in names if is_marked(name)]


def list_globals(names: Iterable[str], limit: int = MAX_GLOBALS) -> list[str]:
    """Return at most `limit` of the names, sorted; of too many, those outside `torch.nn` and `torch.optim` first.

    Names of more than 200 characters are cut.
    """
    known = sorted(set(names), key=lambda name: (not is_marked(name), name))
    return sorted({_cut(name, MAX_CHARACTERS) for name in known[:limit]})


def list_reasons(reasons: Sequence[str]) -> list[str]:
    """Return at most 20 of the sentences, the last of which says how many were left out."""
    if len(reasons) <= MAX_REASONS:
        return [_cut(each, MAX_REASON_CHARACTERS) for each in reasons]
    kept = [_cut(each, MAX_REASON_CHARACTERS) for each in reasons[: MAX_REASONS - 1]]
    return [*kept, f"And {len(reasons) - len(kept)} more reasons."]


def name_some(names: Sequence[str], limit: int = _NAMED) -> str:
    """Return the first names as a part of a sentence, and how many more there are."""
    listed = ", ".join(quote_name(name) for name in names[:limit])
    return f"{listed} and {len(names) - limit:,} more" if len(names) > limit else listed


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
