"""schemas/profile.v1.json and the code agree: on the keys, on every example, and on what they refuse.

The schema is never stricter than the code. Where it is laxer, the reason stands in LAXER below and in the schema's own
description: what hangs on the machine, on a pattern, or on two distant places of the profile.
"""

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from rater.sources import SOURCES, ProfileRefused, profile_from
from tests.schema_check import SCHEMAS, schema_of, validator_for
from tests.sources.support import ASTERISK, GRAPH

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs" / "sources"
UNKNOWN = "a_key_that_nobody_knows"

# (what the code says, key and expectation) -> why the schema cannot say it.
LAXER = (
    r"zone: found .* expected 'UTC' or an IANA zone",  # whether this machine knows the zone
    r"zone: found nothing; expected 'UTC' or an IANA zone",  # stamps without a zone, by template or time_format
    r"layout: found a layout without",  # columns that the rest of the profile asks for
    r"columns: found columns without",
    r"template: found (one without|')",
    r"template: found .* each variable once",
    r"columns: found .* each column once",
    r"time_format: found",  # a whole pattern
    r"widths: found .* one width for each",
    r"\[acme.stop\] ",  # places within the width, which may be that of the release
    r"positions\] .* a whole number from 1 to",  # the same
    r"column(_in)?: found .* one of .*(setup|reason|served)",  # a column that the map must have
    r"\[acme\] trunk_(in|out): found",
    r"\[sonus.stop\] trunk_in",
)


def validator() -> Any:
    return validator_for("profile", "v1")


def schema_faults(data: dict[str, Any]) -> list[str]:
    return [error.message for error in validator().iter_errors(data)]


def refusal(data: dict[str, Any]) -> str:
    try:
        profile_from("profile.toml", data)
    except ProfileRefused as refused:
        return str(refused)
    return ""


def read(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


@cache
def profiles() -> dict[str, dict[str, Any]]:
    """Every example of the docs, and what they leave out: other sources, other ways to say which call is which."""
    found = {file.stem: read(file.read_text("utf-8")) for file in sorted(DOCS.glob("*.toml"))}
    found["asterisk-csv"] = read(ASTERISK)
    found["graph-pstn"] = read(GRAPH + '[users]\ncolumn = "userId"\n[graph]\nmasked_callee = "cut"\n')
    found["graph-direct-routing"] = read(GRAPH.replace("graph-pstn", "graph-direct-routing"))
    columns = copy.deepcopy(found["asterisk-csv"])
    columns["asterisk"] = {
        "columns": "src dst dcontext channel start end billsec disposition uniqueid sequence -x".split(),
        "header": False,
    }
    found["asterisk-columns"] = columns
    trunks = copy.deepcopy(found["asterisk-csv"])
    trunks["call_types"] = {"by": "trunks", "trunks": ["carrier1"], "inbound": "user_in", "outbound": "user_out", "internal": "skip",
                            "transit": "skip"}  # fmt: skip
    found["asterisk-trunks"] = trunks
    positions = copy.deepcopy(found["delimited"])
    positions["delimited"] |= {
        "width": 12,
        "positions": {name: place for place, name in enumerate(positions["delimited"].pop("columns"), 1)},
    }
    found["delimited-positions"] = positions
    named = copy.deepcopy(found["delimited"])
    named["delimited"] |= {"header": True, "short_lines": False, "duration_unit": "s", "escape": "\\"}
    del named["delimited"]["columns"]
    found["delimited-header"] = named
    cdr = copy.deepcopy(found["kamailio"])
    cdr["kamailio"] |= {
        "records": "cdr",
        "cdr_start_on_confirmed": True,
        "time": "time",
        "settle_s": 1,
        "open_calls_max": 9,
    }
    found["kamailio-cdr"] = cdr
    legs = copy.deepcopy(found["opensips"])
    legs["opensips"] |= {"leg": "leg_id", "billed_leg": "0", "whole_seconds": True}
    found["opensips-legs"] = legs
    numbers = copy.deepcopy(found["cucm"])
    numbers["call_types"] = {"by": "numbers", "owned": ["+4420"]}
    numbers["numbers"]["bare"] = "national"
    found["cucm-numbers"] = numbers
    return found


def test_the_schema_is_json_schema_2020_12_and_every_object_in_it_is_told():
    Draft202012Validator.check_schema(schema_of("profile"))
    for name, table in schema_of("profile")["$defs"].items():
        for key, part in table.get("properties", {}).items():
            assert (
                part is False or {"description", "$ref", "const", "anyOf"} & part.keys() or name.startswith("needs")
            ), (name, key)


@pytest.mark.parametrize("name", profiles())
def test_every_example_passes_both(name: str):
    assert refusal(profiles()[name]) == ""
    assert schema_faults(profiles()[name]) == []


def test_every_source_has_an_example_and_a_part_of_the_schema():
    assert {data["source"] for data in profiles().values()} == set(SOURCES)
    schema = schema_of("profile")
    assert schema["properties"]["source"]["enum"] == [
        part["if"]["properties"]["source"]["const"] for part in schema["allOf"]
    ]
    assert set(schema["properties"]["source"]["enum"]) == set(SOURCES)


# ---------------------------------------------------------------------------------------------- the keys


def keys_of_code(data: dict[str, Any], table: tuple[str, ...]) -> set[str]:
    """The keys that the code asks a table for: it names them when it finds one that it does not know."""
    changed = copy.deepcopy(data)
    inner = changed
    for name in table:
        inner = inner.setdefault(name, {})
    inner[UNKNOWN] = "x"
    with pytest.raises(ProfileRefused) as refused:
        profile_from("profile.toml", changed)
    assert refused.value.found == "a key that is not known", str(refused.value)
    return set(refused.value.expected.split(", "))


def keys_of_schema(source: str, table: tuple[str, ...]) -> set[str]:
    schema = schema_of("profile")
    part = schema["$defs"][f"profile_of_{source}"]
    for name in table:
        part = part["properties"][name]
        if "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return {name for name, told in part["properties"].items() if told is not False}


@pytest.mark.parametrize("source", SOURCES)
def test_the_schema_has_exactly_the_keys_that_the_code_asks_for(source: str):
    mine = [data for data in profiles().values() if data["source"] == source]
    family = source.partition("-")[0]
    tables: list[tuple[str, ...]] = [(), ("users",), ("numbers",), ("call_types",), (family,)]
    tables += [("tenants",)] if not source.startswith("graph") else []
    tables += [("delimited", "fields")] if source == "delimited" else []
    for table in tables:
        asked: set[str] = set()
        for data in mine:
            if table == ("tenants",) and "tenant" in data:
                data = {key: value for key, value in data.items() if key != "tenant"} | {
                    "tenants": {"same": True, "column": "x"}
                }
            asked |= keys_of_code(data, table)
        expected = keys_of_schema(source, table)
        if table == () and source in (
            "freeswitch-json",
            "freeswitch-xml",
            "freeswitch-event",
            "3gpp-json",
            "graph-pstn",
            "graph-direct-routing",
        ):
            asked -= {"zone"}  # asked for, to be refused
        assert asked == expected, table


# ---------------------------------------------------------------------------------------------- what is refused


ODD: tuple[Any, ...] = ("", "x", "1", "+44", "00", 0, 1, -1, 99_999_999, 1.5, True, False, [], ["x"], [1], [""], ["44"], ["+44"], [True],
                        {}, {"x": "y"}, {"x": 1}, {"x": ["y"]})  # fmt: skip


FEW: tuple[Any, ...] = ("x", 1, True, [], ["x"], ["+44"], {}, {"x": "y"})


def places(data: dict[str, Any], before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in data.items():
        yield (*before, key)
        if isinstance(value, dict):
            yield from places(value, (*before, key))


def at(data: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    for name in place[:-1]:
        data = data[name]
    return data


def words_of_schema(source: str, place: tuple[str, ...]) -> list[Any]:
    """The words that the schema has for this key, so that mutations also hit what is allowed."""
    text = json.dumps(
        schema_of("profile")["$defs"].get(f"options_of_{source}", {}).get("properties", {}).get(place[-1], {})
    )
    return re.findall(r'"enum": (\[[^\]]*\])', text) and json.loads(re.findall(r'"enum": (\[[^\]]*\])', text)[0])


def mutations(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    known = list(places(data))
    for place in known:
        gone = copy.deepcopy(data)
        del at(gone, place)[place[-1]]
        yield gone
        for value in (*ODD, *words_of_schema(data["source"], place)):
            changed = copy.deepcopy(data)
            at(changed, place)[place[-1]] = copy.deepcopy(value)
            yield changed
    schema = schema_of("profile")["$defs"]
    family = data["source"].partition("-")[0]
    options = schema.get(f"options_of_{data['source']}", schema["options_of_graph"])["properties"]
    tables = {"": ["switch", "zone", "tenant", "tenants", "cucm", UNKNOWN], family: [*options, UNKNOWN], "users": [*schema["users"]["properties"], UNKNOWN],
              "numbers": [*schema["numbers"]["properties"], UNKNOWN], "tenants": [*schema["tenants"]["properties"], UNKNOWN],
              "call_types": ["by", "column", "map", "trunks", "owned", "inbound", "transit", UNKNOWN]}  # fmt: skip
    for table, keys in tables.items():
        for key in keys:
            for value in (
                *ODD,
                "numbers",
                "column",
                "trunks",
                "dcontext",
                "national",
                "user_out",
                "cdr",
                "own",
                "header",
            ):
                changed = copy.deepcopy(data)
                (changed.setdefault(table, {}) if table else changed)[key] = copy.deepcopy(value)
                yield changed


@pytest.mark.parametrize("name", profiles())
def test_the_schema_refuses_what_the_code_refuses_and_nothing_else(name: str):
    stricter, laxer, refused, passed = [], [], 0, 0
    for data in mutations(profiles()[name]):
        said, faults = refusal(data), schema_faults(data)
        refused += bool(said)
        passed += not said
        if faults and not said:
            stricter.append((faults[0], data))
        if said and not faults and not any(re.search(pattern, said) for pattern in LAXER):
            laxer.append(said)
    assert stricter == []
    assert sorted(set(laxer)) == []
    assert refused > 100
    assert passed > 10


def test_the_docs_name_the_schema():
    assert "profile.v1.json" in (ROOT / "docs" / "sources.md").read_text("utf-8")
    assert "profile.v1.json" in (SCHEMAS / "README.md").read_text("utf-8")
