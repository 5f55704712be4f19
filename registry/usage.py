"""What versions would take as files, what they take, and what sharing saves: `GET /teams/{team}/storage`."""

from pydantic import computed_field

from registry.fields import AnswerModel


class _Use(AnswerModel):
    """Sizes in bytes.

    Attributes:
        version_count: versions that are not purged; deleted ones take their bytes until then.
        logical_bytes: of all their files, equal ones each time: what a quota counts.
        stored_bytes: what the blob store holds of them.
    """

    version_count: int
    logical_bytes: int
    stored_bytes: int

    @computed_field
    @property
    def saved_bytes(self) -> int:
        """What sharing saves."""
        return max(self.logical_bytes - self.stored_bytes, 0)


class TeamStorage(_Use):
    """What a team takes.

    `stored_bytes` are those of its `object_count` objects, with what waits to be collected.
    """

    team: str
    object_count: int


class ModelStorage(_Use):
    """What a model takes.

    `stored_bytes` are those of the objects that it brought: each counts for the model of the oldest version that lies
    in it, so that models together have what their team has. `own_bytes`: of objects in which no other model lies.
    """

    team: str
    model: str
    own_bytes: int
    is_deleted: bool = False

    @property
    def full_name(self) -> str:
        """`team/model`."""
        return f"{self.team}/{self.model}"
