"""The one converter between the service's JSON and the models.

Strict where it matters: a wrong type is refused, never coerced. Tolerant where the service may grow: fields that are
not known are ignored, and so is a state that is not known, as `Unknown`. Every refusal names what is wrong and where.
This module must not know where a value came from, nor raise anything but `ContractViolation`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, cast, get_origin
from uuid import UUID

import attrs
from cattrs import Converter, transform_error
from cattrs.errors import BaseValidationError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.strategies import configure_tagged_union

from playai_async._models import Completed, Failed, InProgress, Output, TtsJob, TtsParameters, Unknown

__all__ = ["ContractViolation", "JobConverter"]

_Known = Completed | InProgress | Failed
_KNOWN_STATES = frozenset({Completed.status, InProgress.status, Failed.status})


class ContractViolation(Exception):  # noqa: N818 - a finding, which `_protocol` turns into a public error
    """A value that the contract does not allow.

    Attributes:
        problems: What is wrong and where, each as `message @ $.path`.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__(*problems)
        self.problems = problems


class JobConverter:
    """Turns a decoded JSON value into a `TtsJob`, and a job or its parameters into the service's spelling."""

    def __init__(self) -> None:
        self._structure, self._unstructure = _job_hooks()
        self._unstructure_parameters = _parameters_hook()

    def structure(self, value: object, job_id: UUID | None = None) -> TtsJob:
        """Read a job.

        Args:
            value: What a JSON decoder made of a reply.
            job_id: The job that it should be: where its id is written as usual, the job gets this very object.

        Returns:
            The job.

        Raises:
            ContractViolation: The value is not a job as the contract has it.
        """
        try:
            return cast("TtsJob", self._structure(_with_id(value, job_id)))
        except (BaseValidationError, _Refusal) as error:
            problems = transform_error(error, format_exception=_describe)
            raise ContractViolation([_respell(problem) for problem in problems]) from None

    def unstructure(self, job: TtsJob) -> dict[str, Any]:
        """Write a job as the service would."""
        return self._unstructure(job)

    def unstructure_parameters(self, parameters: TtsParameters) -> dict[str, Any]:
        """Write what a job is created from, without what was left out.

        Raises:
            ValueError: `extra` has a field that is given already.
        """
        written = self._unstructure_parameters(parameters)
        fields = {name: value for name, value in written.items() if value is not None}
        twice = sorted(fields.keys() & parameters.extra.keys())
        if twice:
            raise ValueError(f"extra has what is given already: {', '.join(twice)}")
        return {**fields, **parameters.extra}


def _with_id(value: object, job_id: UUID | None) -> object:
    """Put an id in the place of its usual spelling, so that the job shares it rather than have one of its own."""
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)
    return {**fields, "id": job_id} if fields.get("id") == str(job_id) else fields


class _Refusal(ValueError):  # noqa: N818 - a finding, too
    """A value of the wrong type; its text says what was expected."""


def _describe(error: BaseException, _: type | None) -> str:
    # Our own words and cattrs's class names only: the value itself may be a secret or what the job speaks.
    if isinstance(error, KeyError):
        return "required field missing"
    return str(error) if isinstance(error, _Refusal) else f"unreadable ({type(error).__name__})"


def _respell(problem: str) -> str:
    """Give the path, which cattrs makes of Python's names, the service's names."""
    finding, _, path = problem.rpartition(" @ ")
    return f"{finding} @ {'.'.join(_camel(name) for name in path.split('.'))}"


def _refuse(expected: str, value: object) -> _Refusal:
    names: dict[type, str] = {
        type(None): "null",
        bool: "a boolean",
        str: "a string",
        dict: "an object",
        list: "an array",
    }
    return _Refusal(f"expected {expected}, got {names.get(type(value), 'a number')}")


def _text(value: object, _: object) -> str:
    if not isinstance(value, str):
        raise _refuse("a string", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Refusal("expected a string of Unicode text, got a lone surrogate") from None
    return value


def _number(value: object, _: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse("a number", value)
    if not abs(value) <= sys.float_info.max:
        raise _Refusal("expected a finite number")
    return float(value)


def _uuid(value: object, _: object) -> UUID:
    if isinstance(value, UUID):
        return value  # put there by `_with_id`: no JSON decoder makes one
    try:
        found = UUID(_text(value, str))
    except ValueError:
        found = None
    if found is None or str(found) != cast("str", value).lower():  # UUID() also takes braces and stray hyphens
        raise _Refusal("expected a UUID") from None
    return found


def _time(value: object, _: object) -> datetime:
    try:
        time = datetime.fromisoformat(_text(value, str).upper())  # RFC 3339 allows "t" and "z"
    except _Refusal:
        raise
    except ValueError:
        raise _Refusal("expected a date-time (RFC 3339)") from None
    if time.tzinfo is None:
        raise _Refusal("expected a date-time with an offset")
    return time


def _object(value: object, _: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _refuse("an object", value)
    return cast("dict[str, Any]", value)


def _parameters(value: object, kind: object) -> Mapping[str, Any]:
    # A decoder makes each name anew, and with ten thousand jobs the names would outweigh most of what they name.
    fields = _object(value, kind)
    return {_NAMES.get(name, name): fields[name] for name in fields}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


_PARAMETERS = [field.name for field in attrs.fields(TtsParameters) if field.name != "extra"]
_NAMES = {name: name for name in map(_camel, _PARAMETERS)}

_Structure = Callable[[object], Any]
_Unstructure = Callable[[Any], dict[str, Any]]


def _job_hooks() -> tuple[_Structure, _Unstructure]:
    converter = Converter()
    # Primitives first: a class compiled before its fields' hooks keeps cattrs's own, which coerce (null into "None").
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(UUID, _uuid)
    converter.register_structure_hook(datetime, _time)
    converter.register_unstructure_hook(UUID, str)
    converter.register_unstructure_hook(datetime, datetime.isoformat)
    for model in (Completed, InProgress, Failed):
        structure, unstructure = _renamed_hooks(converter, model)
        converter.register_structure_hook(model, lambda value, _, structure=structure: structure(value))
        converter.register_unstructure_hook(model, unstructure)
    configure_tagged_union(_Known, converter, tag_generator=_state_of, tag_name="status")
    read_output, write_output = _output_hooks(converter)
    return _renamed_hooks(
        converter,
        TtsJob[Output],
        input=override(rename="input", struct_hook=_parameters, unstruct_hook=dict),
        output=override(rename="output", struct_hook=read_output, unstruct_hook=write_output),
    )


def _parameters_hook() -> _Unstructure:
    names: dict[str, Any] = {name: override(rename=_camel(name)) for name in _PARAMETERS}
    return make_dict_unstructure_fn(TtsParameters, Converter(), **names, extra=override(omit=True))


def _state_of(model: Any) -> str:
    state: str = model.status
    return state


def _renamed_hooks(converter: Converter, model: Any, **special: Any) -> tuple[_Structure, _Unstructure]:
    """Compile a class whose fields the service spells in camelCase."""
    fields = attrs.fields(get_origin(model) or model)
    names: dict[str, Any] = {field.name: override(rename=_camel(field.name)) for field in fields} | special
    structure = make_dict_structure_fn(model, converter, **names)
    unstructure = make_dict_unstructure_fn(model, converter, **names)
    return lambda value: structure(_object(value, model), model), unstructure


def _output_hooks(converter: Converter) -> tuple[Callable[[object, object], Output], _Unstructure]:
    structure_known = converter.get_structure_hook(_Known)
    unstructure_known = converter.get_unstructure_hook(_Known)

    def structure_output(value: object, kind: object) -> Output:
        fields = _object(value, kind)
        if not isinstance(status := fields.get("status"), str):
            raise _Refusal("expected a status, as a string")
        _text(status, str)
        if status in _KNOWN_STATES:
            return cast("Output", structure_known(fields, _Known))
        # Not the tagged union's own `default=`, which remembers every unknown tag for ever.
        return Unknown(status=status, fields={name: fields[name] for name in fields if name != "status"})

    def unstructure_output(output: Output) -> dict[str, Any]:
        if isinstance(output, Unknown):
            return {**output.fields, "status": output.status}
        return cast("dict[str, Any]", unstructure_known(output))

    return structure_output, unstructure_output
