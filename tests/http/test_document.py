"""The OpenAPI document against the application: every operation, with what it allows and what it does not (schemathesis)."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from rater.doors.http.tokens import TENANT
from tests.http.scene import Scene, scene

OURS = {ParameterLocation.QUERY, ParameterLocation.BODY}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with scene(tmp_path_factory.mktemp("document")) as found:
        yield found


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "not allowed"])
def test_every_answer_is_one_that_the_document_promises(served: Scene, mode: GenerationMode):
    """Requests that the document allows, and requests that it does not, to every operation."""
    document = schemathesis.openapi.from_asgi("/openapi.json", served.client.app)
    called = set()
    for found in document.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=20, deadline=None, derandomize=True, database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )  # fmt: skip
        def holds(case: Any) -> None:
            if "tenant" in case.path_parameters:
                case.path_parameters["tenant"] = "contoso"
            case.headers.pop("X-Rater-At-Least", None)  # what lies ahead of the log is not there yet: a 503
            if case.path == "/v1/authorize" and isinstance(case.body, dict):
                asked = case.body.get("tenant")
                if isinstance(asked, str) and TENANT.fullmatch(asked):
                    case.body["tenant"] = "contoso"
            served.clock[0] += 60
            called.add((case.method, case.path))
            answer = case.call(headers=served.bearer("admin", "contoso"))
            if answer.status_code not in (414, 431):  # refused before anybody reads it
                # A form cannot say that 30 February is no day, or that `month` goes without `from`.
                excluded = [positive_data_acceptance]
                if not any(
                    case.meta.components[part].mode is GenerationMode.NEGATIVE
                    for part in OURS & set(case.meta.components)
                ):
                    # What was wrong is the tenant or the token, and we gave right ones.
                    excluded.append(negative_data_rejection)
                elif None in (case.query or {}).values():
                    excluded.append(negative_data_rejection)  # an address cannot say null: it was left out
                case.validate_response(answer, excluded_checks=excluded)

        with contextlib.suppress(Unsatisfiable):  # nothing can be wrong with /healthz
            holds()
    assert len(called) >= 14


def test_the_page_shows_every_operation_and_fetches_nothing(served: Scene):
    page = served.client.get("/docs")
    assert page.status_code == 200
    told = served.client.get("/openapi.json").json()
    for path in told["paths"]:
        assert f"<code>{path}</code>" in page.text
    assert "<script" not in page.text
    assert "http://" not in page.text.replace("https://", "http://").replace(
        "an address that begins with http:// or http://", ""
    )
    assert "default-src 'none'" in page.headers["content-security-policy"]
