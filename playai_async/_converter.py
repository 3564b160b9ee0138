"""The one converter between the service's JSON and the models.

Strict about types: a wrong type is rejected, never coerced. Tolerant of additions: unknown fields are ignored, and an
unknown status becomes `Unknown`. Every error names each problem and its JSON path. This module must not know where a
value came from, and raises only `ContractViolation`. It gets the class of jobs as an argument, because jobs use it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast, get_origin
from uuid import UUID

import attrs
from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.strategies import configure_tagged_union

from playai_async._outputs import Completed, Failed, InProgress, Output, Unknown
from playai_async._parameters import TtsParameters

if TYPE_CHECKING:
    from playai_async._models import TtsJob

__all__ = ["MAX_DEPTH", "ContractViolation", "JobConverter", "json_copy"]

MAX_DEPTH = 100
"""Levels of nesting. A deeper job could not be copied or pickled."""

_KnownOutput = Completed | InProgress | Failed


class ContractViolation(Exception):  # noqa: N818 - `contract` turns it into a public error
    """A value breaks the contract.

    Attributes:
        problems: The problems, each as `message @ $.path`.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(*problems)
        self.problems = problems


class JobConverter:
    """Converts decoded JSON to a `TtsJob`, and a job or its parameters to JSON with the service's field names.

    Args:
        job_class: `TtsJob`.
    """

    def __init__(self, job_class: type[TtsJob]) -> None:
        self._structure, self._unstructure = _job_hooks(job_class)
        self._unstructure_parameters = _parameters_hook()

    def structure(self, value: object, job_id: UUID | None = None) -> TtsJob:
        """Convert decoded JSON to a job.

        Args:
            value: The decoded JSON.
            job_id: The expected id. If the value has this id in its usual spelling, the job shares this object.

        Returns:
            The job.

        Raises:
            ContractViolation: The value is not a job, or breaks the contract.
        """
        try:
            return cast("TtsJob", self._structure(_share_id(value, job_id)))
        except (BaseValidationError, _InvalidValueError) as error:
            problems = transform_error(error, format_exception=_describe)
            raise ContractViolation([_with_json_path(problem) for problem in problems]) from None

    def unstructure(self, job: TtsJob) -> dict[str, Any]:
        """Convert a job to JSON-ready data with the service's field names."""
        return self._unstructure(job)

    def unstructure_parameters(self, parameters: TtsParameters) -> dict[str, Any]:
        """Convert the parameters of a job to JSON-ready data. Parameters that are None are left out.

        Raises:
            ValueError: `extra` repeats a parameter.
        """
        named = self._unstructure_parameters(parameters)
        fields = {name: value for name, value in named.items() if value is not None}
        repeated = sorted(fields.keys() & parameters.extra.keys())
        if repeated:
            raise ValueError(f"extra repeats parameters: {', '.join(repeated)}")
        return {**fields, **parameters.extra}


def _share_id(value: object, job_id: UUID | None) -> object:
    """Replace the text of the id by the `UUID` object, so that thousands of jobs and waits share their ids."""
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)
    return {**fields, "id": job_id} if fields.get("id") == str(job_id) else fields


class _InvalidValueError(ValueError):
    """A value is invalid. The message says what was expected, and never contains the value."""


def _describe(error: BaseException, _: type | None) -> str:
    # Only our own messages and class names: the value may be a secret or spoken text.
    if isinstance(error, KeyError):
        return "required field missing"
    return str(error) if isinstance(error, _InvalidValueError) else f"unreadable ({type(error).__name__})"


def _with_json_path(problem: str) -> str:
    """Replace the path of Python names, which cattrs reports, by the path of the service's names."""
    message, _, path = problem.rpartition(" @ ")
    return f"{message} @ {'.'.join(_camel_case(name) for name in path.split('.'))}"


def json_copy(value: object, levels: int = MAX_DEPTH) -> Any:
    """Copy decoded JSON, with everything in it.

    Raises:
        ContractViolation: The value is not JSON: it has a type that a decoder does not return, is nested too deeply, or
            contains a number that is not finite.
    """
    kind = type(value).__name__
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if levels == 0:
        raise ContractViolation(["nested too deeply @ $"])
    if isinstance(value, list | tuple):
        return [json_copy(inner, levels - 1) for inner in cast("list[object]", value)]
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in cast("Mapping[object, object]", value)):
        fields = cast("Mapping[str, object]", value)
        return {name: json_copy(inner, levels - 1) for name, inner in fields.items()}
    raise ContractViolation([f"not JSON ({kind}) @ $"])


def _plain(value: object) -> Any:
    """Copy JSON that a caller may have put together from any mappings and sequences."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in cast("Mapping[object, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in cast("list[object]", value)]
    return value


def _wrong_type(expected: str, value: object) -> _InvalidValueError:
    names: dict[type, str] = {
        type(None): "null",
        bool: "a boolean",
        str: "a string",
        dict: "an object",
        list: "an array",
    }
    return _InvalidValueError(f"expected {expected}, got {names.get(type(value), 'a number')}")


def _structure_str(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _wrong_type("a string", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _InvalidValueError("expected a string of Unicode text, got a lone surrogate") from None
    return value


def _structure_float(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type("a number", value)
    if not abs(value) <= sys.float_info.max:
        raise _InvalidValueError("expected a finite number")
    return value  # a whole number stays an `int`, which is written as it came


def _structure_uuid(value: object, _: object) -> UUID:
    if isinstance(value, UUID):
        return value  # from `_share_id`: a JSON decoder never returns a UUID
    try:
        found = UUID(_structure_str(value, str))
    except ValueError:
        found = None
    if found is None or str(found) != cast("str", value).lower():  # UUID() also accepts braces and misplaced hyphens
        raise _InvalidValueError("expected a UUID") from None
    return found


def _structure_datetime(value: object, _: object) -> datetime:
    try:
        time = datetime.fromisoformat(_structure_str(value, str).upper())  # RFC 3339 allows "t" and "z"
    except _InvalidValueError:
        raise
    except ValueError:
        raise _InvalidValueError("expected a date-time (RFC 3339)") from None
    if time.tzinfo is None:
        raise _InvalidValueError("expected a date-time with an offset")
    return time


def _structure_object(value: object, _: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong_type("an object", value)
    return cast("dict[str, Any]", value)


def _structure_input(value: object, kind: object) -> Mapping[str, Any]:
    # Share the known names: a decoder creates new strings, which would use much memory with ten thousand jobs.
    fields = _structure_object(value, kind)
    return {_NAMES.get(name, name): fields[name] for name in fields}


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


_PARAMETERS = [field.name for field in attrs.fields(TtsParameters) if field.name != "extra"]
_NAMES = {name: name for name in map(_camel_case, _PARAMETERS)}

_Structure = Callable[[object], Any]
_Unstructure = Callable[[Any], dict[str, Any]]


def _job_hooks(job_class: type[TtsJob]) -> tuple[_Structure, _Unstructure]:
    converter = Converter()
    # Primitives first: a class compiled before its fields' hooks keeps cattrs's own, which coerce null to "None".
    converter.register_structure_hook(str, _structure_str)
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook(UUID, _structure_uuid)
    converter.register_structure_hook(datetime, _structure_datetime)
    converter.register_unstructure_hook(UUID, str)
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    for model in (Completed, InProgress, Failed):
        structure, unstructure = _renamed_hooks(converter, model, status=override(omit=True))  # the tag of the union
        converter.register_structure_hook(model, lambda value, _, structure=structure: structure(value))
        converter.register_unstructure_hook(model, unstructure)
    configure_tagged_union(_KnownOutput, converter, tag_generator=_status_of, tag_name="status")
    read_output, write_output = _output_hooks(converter)
    return _renamed_hooks(
        converter,
        cast("Any", job_class)[Output],
        input=override(rename="input", struct_hook=_structure_input, unstruct_hook=_plain),
        output=override(rename="output", struct_hook=read_output, unstruct_hook=write_output),
    )


def _parameters_hook() -> _Unstructure:
    names: dict[str, Any] = {name: override(rename=_camel_case(name)) for name in _PARAMETERS}
    return make_dict_unstructure_fn(TtsParameters, Converter(), **names, extra=override(omit=True))


def _status_of(model: type[Any]) -> str:
    status: str = attrs.fields(model).status.default
    return status


def _renamed_hooks(converter: Converter, model: Any, **special: Any) -> tuple[_Structure, _Unstructure]:
    """Compile the hooks of a class whose JSON names are in camelCase."""
    fields = attrs.fields(get_origin(model) or model)
    names: dict[str, Any] = {field.name: override(rename=_camel_case(field.name)) for field in fields} | special
    structure = make_dict_structure_fn(model, converter, **names)
    unstructure = make_dict_unstructure_fn(model, converter, **names)
    return lambda value: structure(_structure_object(value, model), model), unstructure


def _output_hooks(converter: Converter) -> tuple[Callable[[object, object], Output], _Unstructure]:
    structure_known = converter.get_structure_hook(_KnownOutput)
    unstructure_known = converter.get_unstructure_hook(_KnownOutput)

    known = {_status_of(model) for model in (Completed, InProgress, Failed)}

    def structure_output(value: object, kind: object) -> Output:
        fields = _structure_object(value, kind)
        if not isinstance(status := fields.get("status"), str):
            raise _InvalidValueError("expected a status, as a string")
        _structure_str(status, str)
        if status in known:
            return cast("Output", structure_known(fields, _KnownOutput))
        # Not the `default=` of the tagged union, which stores every unknown tag for ever.
        return Unknown(status=status, fields={name: fields[name] for name in fields if name != "status"})

    def unstructure_output(output: Output) -> dict[str, Any]:
        fields = _plain(output.fields) if isinstance(output, Unknown) else unstructure_known(output)
        return {"status": None, **fields} | {"status": output.status}  # first, as the service writes it

    return structure_output, unstructure_output
