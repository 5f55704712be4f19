"""Identities at other services as they travel: whom an issuer's word lets in as which user."""

from datetime import datetime
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from registry.fields import AnswerModel, Text, WireModel
from registry.teams import MAX_TOKEN_TARGETS, Scope

Use: TypeAlias = Literal["job", "sign_in"]
"""What an identity is good for: a job that sends a JWT, or a person who signs in with a browser. Never both."""


def check_issuer(issuer: str) -> str:
    """Return an issuer as it stands in its tokens.

    Raises:
        ValueError: it is no URL of a server.
    """
    if not issuer.startswith(("https://", "http://")) or any(character.isspace() for character in issuer):
        raise ValueError("an issuer is a URL, as `iss` says in its tokens: https://gitlab.example.com")
    return issuer


Issuer = Annotated[str, Field(max_length=500), AfterValidator(check_issuer)]


class IdentityCreate(WireModel):
    """Whom an issuer's word lets in as a user.

    Attributes:
        issuer: `iss` of its tokens, character by character.
        subject: `sub` of its tokens, character by character; there are no wildcards.
        use: what it is good for.
        scopes: what a job's tokens may be used for; of people it is all.
        targets: teams (`vision`) and models (`vision/resnet50`) that a job's are good for; empty for all of the user's.
    """

    issuer: Issuer
    subject: Annotated[Text, Field(min_length=1, max_length=500)]
    use: Use = "job"
    scopes: Annotated[list[Scope], Field(max_length=len(Scope))] = []
    targets: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=MAX_TOKEN_TARGETS)] = []

    @model_validator(mode="after")
    def _check_scopes(self) -> Self:
        if self.use == "job" and not self.scopes:
            raise ValueError("a job needs at least one scope, such as `read`")
        if self.use == "sign_in" and (self.scopes or self.targets):
            raise ValueError("who signs in has all scopes and no targets; leave them out")
        return self


class IdentityInfo(AnswerModel):
    """A binding of an issuer's subject to a user; see `IdentityCreate`."""

    id: int
    user: str
    issuer: str
    subject: str
    use: Use
    scopes: list[Scope] = []
    targets: list[str] = []
    created_at: datetime
    created_by: str
