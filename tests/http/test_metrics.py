"""What the API counts: by route and outcome, and never more series, whatever is asked for."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from rater.doors.http.database import ApiProblem
from rater.doors.http.gate import Gate, Limits
from rater.doors.http.serve import open_pages
from rater.doors.http.settings import ApiSettings
from rater.doors.metric_groups import exposition, new_registry
from rater.doors.metrics_api import ApiMetrics
from tests.http.scene import scene
from tests.http.test_authorizing import CALL, PATH


def series(registry: CollectorRegistry) -> int:
    return sum(1 for line in exposition(registry).splitlines() if not line.startswith(b"#"))


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_answers_are_counted_by_route_and_class_of_status(tmp_path: Path):
    registry = new_registry()
    with scene(tmp_path, metrics=ApiMetrics(registry)) as api:
        api.get("/v1/tenants/contoso/balance")
        api.get("/v1/tenants/fabrikam/balance")
        api.get("/v1/nowhere")
        api.post(PATH, CALL, role="authorize")
        api.get("/v1/tenants/contoso/usage", headers={"X-Long": "a" * 20_000})
        route = "/v1/tenants/{tenant}/balance"
        assert value(registry, "rater_api_requests_total", route=route, status="2xx") == 1
        assert value(registry, "rater_api_requests_total", route=route, status="4xx") == 1
        assert value(registry, "rater_api_requests_total", route="other", status="4xx") == 2
        assert value(registry, "rater_api_request_seconds_count", route=PATH) == 1
        assert value(registry, "rater_api_authorizations_total", outcome="allowed") == 1
        assert value(registry, "rater_api_authorizations_total", outcome="refused") == 0
        assert value(registry, "rater_api_following") == 1
        api.switchboard.trouble = "the brokers cannot be reached"
        assert value(registry, "rater_api_following") == 0


def test_a_hundred_thousand_tenants_and_addresses_make_no_series(tmp_path: Path):
    """Of the document's routes each has been asked once; then everything else."""
    registry = new_registry()
    with scene(tmp_path, metrics=ApiMetrics(registry)) as api:
        api.get("/v1/tenants/contoso/balance")
        api.get("/v1/nowhere")
        api.post(PATH, CALL, role="authorize")
        api.post(PATH, CALL | {"tenant": "fabrikam"}, role="authorize")
        api.get("/v1/tenants/nobody/balance")
        before = series(registry)
        for k in range(300):
            api.get(f"/v1/tenants/tenant-{k}/balance")
            api.get(f"/v1/{k}/{k}")
            api.post(PATH, CALL | {"tenant": f"tenant-{k}"}, role="authorize")
            api.client.request(f"M{k}", f"/{k}")
        assert series(registry) == before


def test_the_gate_makes_no_series_of_a_hundred_thousand_addresses():
    registry = new_registry()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def nothing(*_: Any) -> Any:
        return {}

    gate = Gate(app, Limits(1_000, 30.0), ApiMetrics(registry))

    async def ask(first: int, last: int) -> None:
        for k in range(first, last):
            path = f"/v1/tenants/t-{k}/balance"
            asked = {"type": "http", "path": path, "raw_path": b"", "query_string": b"", "headers": []}
            await gate(asked, nothing, nothing)

    asyncio.run(ask(0, 1))
    before = series(registry)
    asyncio.run(ask(1, 100_001))
    assert series(registry) == before
    assert value(registry, "rater_api_requests_total", route="other", status="4xx") == 100_001


def test_a_port_that_is_taken_is_said_in_a_sentence(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = ApiSettings(api_file=tmp_path / "api.db", api_pages_port=taken.getsockname()[1])
        with pytest.raises(ApiProblem, match="RATER_API_PAGES_PORT"):
            open_pages(settings, new_registry())
