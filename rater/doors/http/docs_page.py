"""The OpenAPI document as a page to read: no script, nothing fetched from elsewhere, so it shows where there is no internet."""

from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2.2rem;border-top:1px solid #ddd;padding-top:1rem}
code,.way{font-family:ui-monospace,monospace}.way{font-weight:600}.method{display:inline-block;min-width:4.5rem;color:#0b5394}
table{border-collapse:collapse;width:100%;margin:.6rem 0}td,th{text-align:left;vertical-align:top;padding:.25rem .8rem .25rem 0}
th{font-weight:600;color:#555}td:first-child{white-space:nowrap}
@media(prefers-color-scheme:dark){body{background:#161616;color:#e6e6e6}h2{border-color:#444}.method{color:#8ab8ff}th{color:#aaa}}"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def docs_page(document: Mapping[str, Any]) -> str:
    """HTML of every question: what it takes, what it answers."""
    about = document["info"]
    schemas = document.get("components", {}).get("schemas", {})
    operations = [(m, path, told) for path, methods in document["paths"].items() for m, told in methods.items()]
    common = set.intersection(*(_refusals(told) for _, _, told in operations if "security" in told))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{escape(about['title'])}</title><style>{STYLE}</style><h1>{escape(about['title'])}</h1>",
        "".join(f"<p>{escape(text)}</p>" for text in about["description"].split("\n\n")),
        "<p>For programs: <a href=openapi.json>openapi.json</a></p>",
        f"<p>Refusals of every question, as problem details (RFC 9457):<br>{'<br>'.join(sorted(common))}</p>",
        *(_operation(method, path, told, schemas, common) for method, path, told in operations),
    ]
    return "\n".join(parts)


def _refusals(told: Mapping[str, Any]) -> set[str]:
    return {
        f"{status} {escape(answer['description'])}" for status, answer in told["responses"].items() if status >= "400"
    }


def _operation(method: str, path: str, told: Mapping[str, Any], schemas: Mapping[str, Any], common: set[str]) -> str:
    rows = [
        _row(one["name"], one["in"], one.get("required", False), one["schema"], one)
        for one in told.get("parameters", [])
    ]
    rows += [
        _row(name, "body", needed, field, field)
        for name, needed, field in _fields(told.get("requestBody", {}), schemas)
    ]
    for status, answer in told["responses"].items():
        if status < "400":
            rows += [_row(name, f"answer {status}", False, field, field) for name, _, field in _fields(answer, schemas)]
    own = sorted(_refusals(told) - common)
    table = f"<table><tr><th>Name<th>In<th>Type<th>{''.join(rows)}</table>" if rows else ""
    return (
        f"<h2><span class='way method'>{method.upper()}</span> <code>{escape(path)}</code></h2>"
        f"<p>{escape(told.get('description', told.get('summary', '')))}</p>{table}<p>{'<br>'.join(own)}</p>"
    )


def _fields(told: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[tuple[str, bool, Mapping[str, Any]]]:
    """(name, needed, schema) of the fields of a body or an answer in JSON."""
    body = told.get("content", {}).get("application/json", {}).get("schema", {})
    schema = schemas.get(body.get("$ref", "").rsplit("/", 1)[-1], {})
    needed = schema.get("required", [])
    return [(name, name in needed, field) for name, field in schema.get("properties", {}).items()]


def _row(name: str, place: str, needed: bool, schema: Mapping[str, Any], told: Mapping[str, Any]) -> str:
    kinds = [_kind(one) for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    says = escape(told.get("description", ""))
    return f"<tr><td><code>{escape(name)}</code><td>{place}<td>{' or '.join(kinds)}<td>{'needed. ' if needed else ''}{says}"


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return escape(", ".join(map(str, schema["enum"])))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return escape(str(schema.get("type", schema.get("$ref", "").rsplit("/", 1)[-1])))
