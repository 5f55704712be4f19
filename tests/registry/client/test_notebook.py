from datetime import UTC, datetime

import pytest

from registry.client.results import Listing, Model, Version
from registry.sizes import format_size

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HOSTILE = "<script>alert('x')</script>"


def a_version(**annotations: object) -> Version:
    return Version.model_validate(
        {
            "team": "vision",
            "model": "resnet50",
            "number": 3,
            "kind": "state_dict",
            "trust": "tensors",
            "size_bytes": 102400,
            "artifacts": [],
            "annotations": {"updated_at": NOW, "updated_by": "me", **annotations},
            "created_at": NOW,
            "created_by": "me",
        }
    )


def a_model(description: str) -> Model:
    return Model(
        team="vision", name="resnet50", description=description, created_at=NOW, created_by="me", updated_at=NOW
    )


def test_a_version_shows_what_it_is():
    shown = a_version(metrics={"top1": 0.803}, tags={"data": "imagenet"})._repr_html_()
    for part in ("vision/resnet50:3", "100.0 KiB", "top1=0.803", "data=imagenet"):
        assert part in shown


def artifact(path: str, **told: object) -> dict[str, object]:
    return {"path": path, "size_bytes": 3, "sha256": "sha256:" + "a" * 64, "blake3": "blake3:" + "b" * 64, **told}


def test_a_version_shows_its_trust_and_the_reasons_once_where_they_are_the_same():
    code = {"trust": "code", "reasons": ["It runs my.Net."], "globals": ["my.Net", "torch.nn.Linear"]}
    artifacts = [artifact("a.pt", **code), artifact("b.pt", **code), artifact("c.txt")]
    html = Version.model_validate(a_version().model_dump() | {"trust": "code", "artifacts": artifacts})._repr_html_()
    assert html.count("It runs my.Net.") == 1
    assert "trust of a.pt and 1 more" in html
    assert "*my.Net<" in html
    assert "c.txt" not in html.partition("size<")[0]
    assert ">code<" in Listing([a_version().model_copy(update={"trust": "code"})])._repr_html_()


def with_hostile_reasons() -> Version:
    told = artifact("a.pt", trust="code", reasons=[HOSTILE], globals=[HOSTILE])
    return Version.model_validate(a_version().model_dump() | {"artifacts": [told]})


@pytest.mark.parametrize(
    "shown",
    [
        a_version(description=HOSTILE, tags={"a": HOSTILE}, deprecated=HOSTILE),
        with_hostile_reasons(),
        a_model(HOSTILE),
        Listing([a_model(HOSTILE)]),
        Listing([a_version(metrics={HOSTILE: 1.0})]),
        Listing([HOSTILE]),
    ],
)
def test_other_peoples_text_is_never_markup(shown):
    html = shown._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


def test_a_long_list_says_how_many_more_there_are():
    assert "and 5 more" in Listing([a_model("x")] * 105)._repr_html_()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (102_400_000, "97.7 MiB"), (1 << 50, "1024.0 TiB")],
)
def test_sizes_are_said_in_binary_units(size, text):
    assert format_size(size) == text
