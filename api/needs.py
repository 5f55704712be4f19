"""What a route needs, said where it is declared and shown in the API's description."""

from typing import Any

from storage.access import RULES, Action

NEEDS = "x-weighbridge-needs"
"""The member of an operation in the description: an action and its rule."""
ANYBODY = "anybody"
"""Instead of an action: every caller whom the service knows."""


def needs(action: Action | None, **extra: Any) -> dict[str, Any]:
    """Return the keyword of a route that says which action it is; None: any caller whom the service knows.

    The use case decides; this tells people, and the test that tries every route as every role. `extra` are further
    members of the operation's description.
    """
    if action is None:
        return {"openapi_extra": {NEEDS: {"action": ANYBODY}, **extra}}
    rule = RULES[action]
    return {"openapi_extra": {NEEDS: {"action": action.value, "role": rule.role, "scope": rule.scope}, **extra}}
