"""The client's methods about who users are at other services: whose word lets a job or a person in."""

from collections.abc import Iterable

from pydantic import ValidationError

from registry.client.connected import Connected
from registry.client.listing import iter_pages
from registry.client.push import say_invalid
from registry.client.results import Listing
from registry.client.transport import route
from registry.errors import IdentityNotFoundError, InvalidRequestError
from registry.identities import IdentityCreate, IdentityInfo
from registry.names import check_name
from registry.schema import Page
from registry.teams import Scope


class Vouching(Connected):
    """Bindings of issuers' subjects to users, for administrators."""

    def identities(self, user: str) -> Listing[IdentityInfo]:
        """Return who a user is at other services.

        Raises:
            PermissionDeniedError: you are no administrator. UserNotFoundError: there is no such user.
        """
        return Listing(iter_pages(self.connection.resolver.online(), Page[IdentityInfo], _route(user), (), None))

    def trust(
        self,
        user: str,
        *,
        issuer: str,
        subject: str,
        scopes: Iterable[Scope | str] = (),
        targets: Iterable[str] = (),
        sign_in: bool = False,
    ) -> IdentityInfo:
        """Let an issuer's subject in as a user: a job that sends a JWT or, with `sign_in`, a person with a browser.

        Args:
            user: as whom they come in.
            issuer: `iss` of its tokens, character by character.
            subject: `sub` of its tokens, character by character.
            scopes: of a job: what it may do, of `read`, `push`, `promote`, `admin`.
            targets: of a job: the teams and models that it may do that to; empty for all of the user's.
            sign_in: it is a person, who signs in.

        Raises:
            PermissionDeniedError: you are no administrator. UserNotFoundError: there is no such user.
            ConflictError: the subject is bound already.
        """
        given = {"issuer": issuer, "subject": subject, "scopes": list(scopes), "targets": list(targets)}
        given["use"] = "sign_in" if sign_in else "job"
        try:
            body = IdentityCreate.model_validate(given)
        except ValidationError as error:
            raise InvalidRequestError(say_invalid(error)) from error
        return self.connection.resolver.online().call(IdentityInfo, "POST", _route(user), body=body)

    def distrust(self, user: str, *, issuer: str, subject: str) -> IdentityInfo:
        """Let a subject in no more, and end the tokens that were made on its issuer's word.

        Raises:
            PermissionDeniedError: you are no administrator. UserNotFoundError: there is no such user.
            IdentityNotFoundError: the user is nobody there.
        """
        for known in self.identities(user):
            if (known.issuer, known.subject) == (issuer, subject):
                path = _route(user, str(known.id))
                return self.connection.resolver.online().call(IdentityInfo, "DELETE", path)
        raise IdentityNotFoundError(
            f"{user} is not {subject!r} of {issuer!r}; `weighbridge user trusted {user}` shows who they are elsewhere."
        )


def _route(user: str, *more: str) -> str:
    return route("users", check_name(user, "user name"), "identities", *more)
