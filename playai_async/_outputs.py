"""The output of a job: what its status is, and the fields of that status.

The status is a field, and not a constant of the class, so that `attrs.asdict`, cattrs and other serializers keep it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import attrs

__all__ = ["Completed", "Failed", "InProgress", "Output", "OutputT_co", "Unknown"]


def _is_default(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value != attribute.default:
        raise ValueError(f"{attribute.name} must be {attribute.default!r}")


@attrs.frozen
class Completed:
    """The audio is ready.

    Attributes:
        url: A signed link to the audio, on another host; its lifetime is not documented.
        content_type: The media type of the audio, such as `audio/mpeg`.
        file_size: Bytes.
        duration: Seconds of audio.
        status: Always `COMPLETED`.
    """

    url: str
    content_type: str
    file_size: float
    duration: float
    status: Literal["COMPLETED"] = attrs.field(default="COMPLETED", kw_only=True, repr=False, validator=_is_default)


@attrs.frozen
class InProgress:
    """The job is not finished.

    Attributes:
        status: Always `IN_PROGRESS`.
    """

    status: Literal["IN_PROGRESS"] = attrs.field(default="IN_PROGRESS", kw_only=True, repr=False, validator=_is_default)


@attrs.frozen
class Failed:
    """The job failed; the contract gives no reason.

    Attributes:
        status: Always `FAILED`.
    """

    status: Literal["FAILED"] = attrs.field(default="FAILED", kw_only=True, repr=False, validator=_is_default)


@attrs.frozen
class Unknown:
    """A status that the contract does not list. It counts as not finished.

    Attributes:
        status: The status, as the service spells it.
        fields: The other fields of the output, under the service's names.
    """

    status: str
    fields: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


Output: TypeAlias = Completed | InProgress | Failed | Unknown

# Type variables have defaults since Python 3.13. Type checkers know them from typing_extensions, which this package
# does not require; nothing reads the default at run time.
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    OutputT_co = TypeVar("OutputT_co", bound=Output, default=Output, covariant=True)
else:
    from typing import TypeVar

    OutputT_co = TypeVar("OutputT_co", covariant=True)
