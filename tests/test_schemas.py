"""The promises in `schemas/`: well-formed, with an example for each case, and the same words as the code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from rater.contract.commands import decode_command
from rater.contract.events import EVENT_TYPES
from rater.contract.scanner import FIELDS, scan_scratch
from rater.core.administration import COMMAND, COMMAND_TYPES
from rater.core.calls import CALL_TYPES, DISPOSITIONS, REFUSED_WITHOUT_CREDIT
from rater.core.charging import OUTCOMES
from rater.core.plans import PLANS
from rater.core.reasons import Reason
from rater.pipeline import read_calls, records_of
from tests.schema_check import SCHEMAS, SchemaMismatch, schema_of, validate

# Sections 1 to 5 of the contract, and the two topics of the worker's own.
INPUTS = ("cdrs", "account-commands")
OUTPUTS = ("rated-cdrs", "rejected-cdrs", "rejected-commands", "account-events", "rater-journal", "rater-state",
           "rejected-raw", "undelivered-notifications")  # fmt: skip
TOPICS = INPUTS + OUTPUTS
EXAMPLES = SCHEMAS / "examples"


def examples(kind: str, topics: tuple[str, ...] = TOPICS) -> list[Any]:
    files = [file for topic in topics for file in sorted((EXAMPLES / topic / kind).glob("*.json"))]
    return [pytest.param(file, id=f"{file.parts[-3]}/{file.stem}") for file in files]


def parts_of(schema: Any) -> list[dict[str, Any]]:
    """Every object inside a schema, itself included."""
    if isinstance(schema, list):
        return [part for item in schema for part in parts_of(item)]
    if not isinstance(schema, dict):
        return []
    return [schema, *(part for value in schema.values() for part in parts_of(value))]


# ---------------------------------------------------------------------------------------------- the files


def test_each_topic_has_one_schema_and_each_schema_a_topic():
    found = {file.name for file in SCHEMAS.glob("*.json")}
    assert found - {"profile.v1.json"} == {
        f"{topic}.v1.json" for topic in TOPICS
    }  # tests/sources/test_profile_schema.py


def test_each_topic_has_examples_of_both_kinds_and_no_stray_ones():
    for topic in TOPICS:
        assert examples("valid", (topic,)), topic
        assert examples("invalid", (topic,)), topic
    found = {file.relative_to(EXAMPLES).parts[:2] for file in EXAMPLES.rglob("*.json")}
    assert found == {(topic, kind) for topic in TOPICS for kind in ("valid", "invalid")}


@pytest.mark.parametrize("topic", TOPICS)
def test_a_schema_is_json_schema_2020_12(topic: str):
    schema = schema_of(topic)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"] == f"urn:rater:schema:{topic}:v1"
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("topic", TOPICS)
def test_each_field_is_described(topic: str):
    schema = schema_of(topic)
    for part in parts_of(schema):
        properties = part.get("properties")
        # Inside if/then/else fields are narrowed, not introduced: only a place that describes itself introduces some.
        if not isinstance(properties, dict) or "description" not in part:
            continue
        for name, field in properties.items():
            if name in ("id", "data"):
                continue
            described = "description" in field or "description" in schema["$defs"][field["$ref"].split("/")[-1]]
            assert described, f"{topic}: {name}"


@pytest.mark.parametrize("topic", TOPICS)
def test_patterns_read_the_same_in_every_regex_dialect(topic: str):
    for part in parts_of(schema_of(topic)):
        pattern = part.get("pattern")
        if isinstance(pattern, str):
            assert pattern.startswith("^")
            assert "$" not in pattern[:-1]  # the checker takes a last `$` for the end of the text
            assert "\\d" not in pattern  # in Python it takes digits of every script
            assert "\\w" not in pattern


@pytest.mark.parametrize("topic", INPUTS)
def test_an_input_admits_unknown_fields(topic: str):
    assert "additionalProperties" not in schema_of(topic)


@pytest.mark.parametrize("topic", OUTPUTS)
def test_an_output_is_closed_and_all_its_fields_are_required(topic: str):
    schema = schema_of(topic)
    assert schema["additionalProperties"] is False
    of_a_log = ["misrouted", "commands_misrouted", "seen_b64"] if topic == "rater-journal" else []
    assert list(schema["properties"]) == schema["required"] + of_a_log


# ---------------------------------------------------------------------------------------------- the examples


@pytest.mark.parametrize("file", examples("valid"))
def test_a_valid_example_passes(file: Path):
    validate(file.parts[-3], file.read_bytes())


@pytest.mark.parametrize("file", examples("invalid"))
def test_an_invalid_example_fails(file: Path):
    with pytest.raises(SchemaMismatch):
        validate(file.parts[-3], file.read_bytes())


@pytest.mark.parametrize("file", examples("valid"))
def test_a_valid_example_without_a_required_field_fails(file: Path):
    topic = file.parts[-3]
    record = json.loads(file.read_text("utf-8"))
    for name in schema_of(topic)["required"]:
        with pytest.raises(SchemaMismatch):
            validate(topic, {key: value for key, value in record.items() if key != name})


@pytest.mark.parametrize("file", examples("valid", OUTPUTS))
def test_a_valid_output_with_one_field_more_fails(file: Path):
    record = json.loads(file.read_text("utf-8"))
    with pytest.raises(SchemaMismatch):
        validate(file.parts[-3], record | {"field_nobody_promised": 1})


@pytest.mark.parametrize("line", [b'{"v":1,"v":1}', b'{"x":NaN}', b"[]", b"{", b"\xff", b'{"a":{"b":1,"b":2}}'])
def test_the_checker_refuses_what_json_libraries_let_pass(line: bytes):
    with pytest.raises(SchemaMismatch):
        validate("cdrs", line)


def test_the_checker_says_where_and_what():
    record = json.loads((EXAMPLES / "cdrs" / "valid" / "contract-example.json").read_text("utf-8"))
    with pytest.raises(SchemaMismatch, match=r"cdrs\.v1\.json: \$\.billable_ms: '60' is not of type 'integer'"):
        validate("cdrs", record | {"billable_ms": "60"})


# ---------------------------------------------------------------------------------------------- schema and code


@pytest.mark.parametrize("file", examples("valid", ("account-commands",)))
def test_the_reader_takes_a_valid_command(file: Path):
    row = np.zeros(1, COMMAND).view(np.recarray)[0]
    _, detail = decode_command(row, file.read_bytes(), activations=True)
    assert (row.reason, detail) == (0, "")


@pytest.mark.parametrize("file", examples("invalid", ("account-commands",)))
def test_the_reader_refuses_an_invalid_command(file: Path):
    row = np.zeros(1, COMMAND).view(np.recarray)[0]
    decode_command(row, file.read_bytes(), activations=True)
    assert row.reason != 0


@pytest.mark.parametrize("file", examples("valid", ("cdrs",)))
def test_the_reader_takes_a_valid_call_record(file: Path):
    assert reason_of_call(file.read_bytes()) is Reason.NONE


@pytest.mark.parametrize("file", examples("invalid", ("cdrs",)))
def test_the_reader_refuses_an_invalid_call_record(file: Path):
    assert reason_of_call(file.read_bytes()) in (Reason.BAD_FIELD, Reason.MISSING_FIELD)


def reason_of_call(raw: bytes) -> Reason:
    rows, _ = read_calls(records_of([raw]), {}, scan_scratch())
    return Reason(int(rows[0].reason))


def test_the_words_of_the_schemas_are_the_words_of_the_code():
    properties = {topic: schema_of(topic)["properties"] for topic in TOPICS}
    calls = schema_of("cdrs")["$defs"]["call_type"]["enum"]
    assert calls == list(CALL_TYPES)
    assert properties["cdrs"]["disposition"]["enum"] == list(DISPOSITIONS)
    assert set(properties["cdrs"]) == set(FIELDS)
    assert properties["account-commands"]["type"]["enum"] == list(COMMAND_TYPES)
    assert schema_of("account-commands")["$defs"]["plan"]["enum"] == list(PLANS)
    assert properties["rated-cdrs"]["outcome"]["enum"] == list(OUTCOMES)
    assert properties["account-events"]["type"]["enum"] == [f"rater.{name}" for name in EVENT_TYPES.values()]
    refused = [part["const"] for part in parts_of(schema_of("account-events")) if isinstance(part.get("const"), list)]
    assert refused == [list(REFUSED_WITHOUT_CREDIT)] * 2


def test_every_reason_of_the_code_is_promised_by_one_of_the_rejected_topics():
    promised = {
        reason
        for topic in ("rejected-cdrs", "rejected-commands")
        for reason in schema_of(topic)["properties"]["reason"]["enum"]
    }
    assert promised == {reason.text for reason in Reason if reason is not Reason.NONE}
