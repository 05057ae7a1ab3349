"""Where in a record a value stands: column, JSON path or tag, told from the reader that was asked for it."""

from collections.abc import Mapping
from types import FrameType
from typing import Any

from rater.sources.freeswitch_json import EVENT_HEADERS, INSTEAD, PROFILE

NOWHERE = ("", "")


def place_of(frame: FrameType, name: str) -> tuple[str, str]:
    """(where, as written) of the value called `name`, by what this reader has before it; empty when it cannot be said."""
    local = frame.f_locals
    reader: Any = local.get("self")
    if hasattr(reader, "places"):
        return column(reader.places, reader.values, name)
    if hasattr(reader, "body"):
        return in_message(reader.body, reader.around, name)
    if hasattr(reader, "spoken"):
        key = reader.key(name)
        return at_key(reader.values, key)
    if hasattr(reader, "values"):
        return at_key(reader.values, name)
    if "places" in local:
        return column(local["places"], local["values"], name)
    if "profiles" in local:
        return in_leg(local, name)
    if "event" in local:
        return in_event(local["event"], name)
    if frame.f_code.co_name in ("text_of", "whole") and local.get("value") is not None:
        return name, str(local["value"])
    return NOWHERE


def column(places: Mapping[str, Any], values: list[str], name: str) -> tuple[str, str]:
    """Columns are counted from 1, as in a spreadsheet; 52.2 is the second sub-field of the 52nd."""
    place = places.get(name)
    if place is None:
        return NOWHERE
    field, inner = place if isinstance(place, tuple) else (place, -1)
    if field >= len(values):
        return NOWHERE
    told = f"column {field + 1}" if inner < 0 else f"column {field + 1}.{inner + 1}"
    return told, as_utf8(values[field])


def as_utf8(text: str) -> str:
    """Rows are read a byte a character; people see what the bytes say."""
    return text.encode("latin-1", "replace").decode("utf-8", "replace")


def at_key(values: Mapping[str, Any], key: str) -> tuple[str, str]:
    return (key, str(values[key])) if values.get(key) is not None else NOWHERE


def in_message(body: Mapping[str, Any], around: Mapping[str, Any], path: str) -> tuple[str, str]:
    for prefix, found in (("body." if body is not around else "", body), ("", around)):
        value: Any = found
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            return prefix + path, str(value)
    return NOWHERE


def in_leg(local: Mapping[str, Any], name: str) -> tuple[str, str]:
    """FreeSWITCH's JSON: the newest caller profile, the variables, and for one name the oldest caller profile."""
    profiles, variables = local["profiles"], local["variables"]
    if name in PROFILE and name in profiles[0]:
        return f"callflow[0].caller_profile.{name}", str(profiles[0][name])
    if variables.get(name) is not None:
        return f"variables.{name}", str(variables[name])
    if name == "first_destination_number":
        oldest = at_key(profiles[-1], "destination_number")
        if oldest[0]:
            return f"callflow[{len(profiles) - 1}].caller_profile.destination_number", oldest[1]
    return NOWHERE


def in_event(event: Mapping[str, Any], name: str) -> tuple[str, str]:
    for key in (EVENT_HEADERS.get(name, ""), "variable_" + name, INSTEAD.get(name, "")):
        if event.get(key) is not None:
            return at_key(event, key)
    return NOWHERE
