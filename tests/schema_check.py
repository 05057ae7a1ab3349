"""Is a line what `schemas/` promises? One function for every test, quick enough for thousands of lines.

Three things that a plain JSON Schema check lets pass are refused here, because the contract refuses them: a key that
stands twice, NaN, and 1.0 where an integer belongs. `$` means the end of the text, as ECMA-262 has it; Python's would
also stand before a last line feed.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend

SCHEMAS = Path(__file__).resolve().parents[1] / "schemas"
LATEST = "v1"
DEFINITION = "#/$defs/"


class SchemaMismatch(AssertionError):
    """A line is not what its topic promises: the schema, the place in the line, what is wrong."""


def schema_of(topic: str, version: str = LATEST) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((SCHEMAS / f"{topic}.{version}.json").read_text("utf-8"))
    return schema


def validate(topic: str, line: bytes | str | dict[str, Any], version: str = LATEST) -> dict[str, Any]:
    """The line's object, or `SchemaMismatch`. A rated call's `call` is held against `cdrs` too."""
    record = line if isinstance(line, dict) else decoded(topic, line)
    validator = validator_for(topic, version)
    if not validator.is_valid(record):
        raise SchemaMismatch(f"{topic}.{version}.json: {described(validator, record)}")
    if topic == "rated-cdrs":
        validate("cdrs", record["call"])
    return record


def decoded(topic: str, line: bytes | str) -> dict[str, Any]:
    try:
        record = json.loads(line, object_pairs_hook=unique, parse_constant=refused_constant)
    except ValueError as wrong:
        raise SchemaMismatch(f"{topic}: not JSON: {wrong}") from wrong
    if not isinstance(record, dict):
        raise SchemaMismatch(f"{topic}: found {type(record).__name__}; expected one object")
    return record


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return record


def refused_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def described(validator: Any, record: dict[str, Any]) -> str:
    error = best_match(validator.iter_errors(record))
    return f"{error.json_path}: {error.message}" if error is not None else "no error"


@cache
def validator_for(topic: str, version: str = LATEST) -> Any:
    schema = schema_of(topic, version)
    return Strict(inlined(schema, schema.get("$defs", {})))


def inlined(part: Any, definitions: dict[str, Any]) -> Any:
    """The schema with every local reference replaced by what it names: a lookup less for each value of each line."""
    if isinstance(part, list):
        return [inlined(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    reference = part.get("$ref")
    if isinstance(reference, str):
        if not reference.startswith(DEFINITION) or set(part) - {"$ref", "description"}:
            raise ValueError(f"{part}: expected a local $ref with nothing beside it but a description")
        return inlined(definitions[reference.removeprefix(DEFINITION)], definitions)
    return {name: inlined(value, definitions) for name, value in part.items() if name != "$defs"}


@cache
def compiled_pattern(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern)


def check_pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not compiled_pattern(pattern).search(value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def is_whole(_checker: Any, value: Any) -> bool:
    return type(value) is int


Strict: Any = extend(
    Draft202012Validator,
    validators={"pattern": check_pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", is_whole),
)
