"""The rules for names, artifact paths and references, so that every client can address everything."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Self

from registry.digest import is_digest
from registry.errors import InvalidNameError, InvalidPathError, InvalidReferenceError

RESERVED_TEAMS = frozenset(
    {
        *("api", "ui", "dl", "xet", "v2", "static", "healthz", "readyz", "metrics", "login", "docs"),
        *("datasets", "spaces", "buckets", "kernels"),
    }
)
"""Names that other clients' URLs use for something else (Hugging Face Hub, OCI, our own pages)."""
RESERVED_USERS = frozenset({"local", "token", "operator", "collector", "installation", "unknown"})
"""Names that the audit gives to callers who are no users."""
RESERVED_ALIASES = frozenset({"latest", "main"})
MAX_PATH_LENGTH = 1000

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,96}")
_VERSION_LIKE = re.compile(r"v?[0-9]+")
_TOKEN_LIKE = re.compile(r"wb_[a-z2-7]{16}_[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if every client can address it (the Hugging Face Hub's rule).

    Raises:
        InvalidNameError: it cannot be addressed; the detail says the rule.
    """
    if _TOKEN_LIKE.fullmatch(name):
        raise InvalidNameError(
            f"That is a token and no {what}. Revoke it: it was sent where names are kept and logged."
        )
    if not is_name(name):
        raise InvalidNameError(
            f"{name[:120]!r} is no valid {what}: use 1 to 96 letters, digits, `_`, `.` and `-`, without `--` or `..`, "
            "not starting or ending with `-` or `.`, not ending with `.git`."
        )
    return name


def is_name(name: str) -> bool:
    """Return whether every client can address what is called `name`."""
    return (
        _NAME.fullmatch(name) is not None
        and "--" not in name
        and ".." not in name
        and name[0] not in "-."
        and name[-1] not in "-."
        and not name.endswith(".git")
    )


def check_team(name: str) -> str:
    """Return `name` if a team may be called that.

    Raises:
        InvalidNameError: it may not.
    """
    check_name(name, "team name")
    if name.lower() in RESERVED_TEAMS:
        raise InvalidNameError(f"{name!r} is reserved: other clients use it in URLs. Choose another team name.")
    return name


def check_user(name: str) -> str:
    """Return `name` if a user may be called that.

    Raises:
        InvalidNameError: they may not.
    """
    check_name(name, "user name")
    if name.lower() in RESERVED_USERS:
        raise InvalidNameError(f"{name!r} is reserved: the audit means something else by it. Choose another user name.")
    return name


def check_alias(name: str) -> str:
    """Return `name` if an alias may be called that: never what could be a version number or `latest`.

    Raises:
        InvalidNameError: it may not.
    """
    check_name(name, "alias")
    if name in RESERVED_ALIASES or _VERSION_LIKE.fullmatch(name):
        raise InvalidNameError(
            f"{name!r} cannot be an alias: `latest`, `main` and names that look like a version number are taken. "
            "Choose a word, such as `prod`."
        )
    return name


def check_path(path: str) -> str:
    """Return the artifact path in Unicode NFC if it is relative and stays inside the version.

    Raises:
        InvalidPathError: it is empty, absolute, too long, escapes, or holds control characters or backslashes.
    """
    normal = unicodedata.normalize("NFC", path)
    parts = normal.split("/")
    if (
        not normal
        or len(normal) > MAX_PATH_LENGTH
        or len(normal.encode("utf-8", "surrogatepass")) > MAX_PATH_LENGTH * 4
        or _CONTROL.search(normal)
        or "\\" in normal
        or any(part in {"", ".", ".."} for part in parts)
        or any("\ud800" <= character <= "\udfff" for character in normal)
    ):
        raise InvalidPathError(
            f"{path[:120]!r} is no valid artifact path: use a relative path of at most {MAX_PATH_LENGTH} characters "
            "with `/` between its parts, without `.`, `..`, empty parts, backslashes or control characters."
        )
    return normal


def fold_path(path: str) -> str:
    """Return the form in which artifact paths of one version must differ (case is ignored)."""
    return unicodedata.normalize("NFC", path.casefold())


def check_paths(paths: list[str]) -> list[str]:
    """Return the paths in NFC if each is valid and no two differ in case only.

    Raises:
        InvalidPathError: a path is invalid, or two collide.
    """
    seen: dict[str, str] = {}
    for path in map(check_path, paths):
        folded = fold_path(path)
        if folded in seen:
            raise InvalidPathError(
                f"{seen[folded]!r} and {path!r} are one name on file systems that ignore case. Rename one."
            )
        seen[folded] = path
    return list(seen.values())


@dataclass(frozen=True, slots=True)
class Reference:
    """A model, and perhaps which version and artifact of it: `vision/resnet50:3`, `vision/resnet50@prod/model.pt`.

    Attributes:
        team: None when the text named none: the client fills in its own.
        model: the model's name.
        version: the number after `:`.
        alias: the word after `@`.
        digest: `sha256:…` after `@`, a pin: the version that holds an artifact with that digest.
        path: the artifact after the version.
    """

    team: str | None
    model: str
    version: int | None = None
    alias: str | None = None
    digest: str | None = None
    path: str | None = None

    @classmethod
    def parse(cls, text: str, team: str | None = None) -> Self:
        """Return what `text` names; `team` is used where it names none.

        Raises:
            InvalidReferenceError: it is no reference; the detail says what was probably meant.
            InvalidNameError, InvalidPathError: a part of it is invalid.
        """
        name, selector, path = _split(text)
        head, slash, tail = name.rpartition("/")
        found_team = check_team(head) if slash else team
        model = check_name(tail, "model name")
        version, alias, digest = _parse_selector(text, selector)
        return cls(found_team, model, version, alias, digest, check_path(path) if path else None)

    @property
    def selector(self) -> str:
        """The version as the HTTP routes take it: a number, an alias, a digest or `latest`."""
        if self.version is not None:
            return str(self.version)
        return self.alias or self.digest or "latest"

    def __str__(self) -> str:
        name = f"{self.team}/{self.model}" if self.team else self.model
        if self.version is not None:
            name += f":{self.version}"
        elif self.alias or self.digest:
            name += f"@{self.alias or self.digest}"
        return f"{name}/{self.path}" if self.path else name


def _split(text: str) -> tuple[str, str, str | None]:
    """Split into `team/model`, the selector with its sign, and the artifact path."""
    sign = min((at for at in (text.find(":"), text.find("@")) if at >= 0), default=-1)
    if sign < 0:
        parts = text.split("/", 2)
        return "/".join(parts[:2]), "", parts[2] if len(parts) > 2 else None  # noqa: PLR2004 - team, model, path
    selector, slash, path = text[sign:].partition("/")
    if text[:sign].count("/") > 1 or (slash and not path):
        raise InvalidReferenceError(f"{text[:200]!r} is no reference: write `team/model:3` or `team/model@alias`.")
    return text[:sign], selector, path or None


def _parse_selector(text: str, selector: str) -> tuple[int | None, str | None, str | None]:
    sign, word = selector[:1], selector[1:]
    if not sign:
        return None, None, None
    if sign == "@":
        if is_digest(word):
            return None, None, word
        if word == "latest":
            return None, None, None
        return None, check_alias(word), None
    if _VERSION_LIKE.fullmatch(word):
        number = word.removeprefix("v")
        if len(number) > 18 or int(number) < 1:  # noqa: PLR2004 - a 64-bit integer column
            raise InvalidReferenceError(f"{text[:200]!r}: version numbers start at 1.")
        return int(number), None, None
    if word == "latest":
        return None, None, None
    raise InvalidReferenceError(
        f"{text[:200]!r}: after `:` comes a version number. Did you mean `{text[: text.index(':')]}@{word}`?"
    )
