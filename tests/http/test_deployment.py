"""`rater api` as a process beside real workers on a real Apache Kafka: asked over TLS, while a partition moves from one worker to the other."""

import contextlib
import itertools
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.broker import KafkaCluster, free_ports
from tests.kafka.test_worker import call
from tests.kafka.workers import PATIENCE_S, ROOT, Deployment, ending

SECRET = "internal-canary-7f3a"
OPENED = b'{"command_id":"c1","tenant":"acme","type":"tenant.opened","at":"2026-11-01T00:00:00Z","country":"GB","currency":"USD","billing_mode":"prepaid"}'
LICENCE = {"change": "assign", "user": "u-1", "plan": "MCOPSTNC", "country": "GB"}
Answer = tuple[int, Any, dict[str, str]]


@dataclass
class Client:
    """One token, asked over TLS."""

    port: int
    pages: int
    token: str
    trust: ssl.SSLContext

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        request = urllib.request.Request(
            f"https://localhost:{self.port}{path}", None if body is None else json.dumps(body).encode(), method=method,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"} | headers,
        )  # fmt: skip
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.trust) as answer:
                return answer.status, json.load(answer), dict(answer.headers)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused), dict(refused.headers)

    def until(self, method: str, path: str, test: Any) -> Any:
        """A worker that has just started does not answer yet."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(urllib.error.URLError):
                status, told, _ = self.ask(method, path)
                if test(status, told):
                    return told
            assert time.monotonic() < deadline, f"{method} {path} did not come to what was expected"
            time.sleep(0.05)


def certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    return cert, key


@contextlib.contextmanager
def serving(deployment: Deployment, workers: list[int]) -> Iterator[tuple[Client, Path]]:
    folder = deployment.folder
    cert, key = certificate(folder)
    port, pages = free_ports(2)
    secret = folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    environment = deployment.environment({
        "RATER_API_FILE": str(folder / "api.db"), "RATER_API_PORT": str(port), "RATER_API_HOST": "0.0.0.0",
        "RATER_API_PAGES_PORT": str(pages),
        "RATER_API_WORKERS": ",".join(f"127.0.0.1:{one}" for one in workers), "RATER_INTERNAL_SECRET_FILE": str(secret),
        "RATER_API_TLS_CERT_FILE": str(cert), "RATER_API_TLS_KEY_FILE": str(key),
    })  # fmt: skip
    made = subprocess.run(
        [sys.executable, "-m", "rater", "api", "token", "create", "admin", "--tenant", "acme", "--scope", "admin"],
        check=True, capture_output=True, text=True, env=environment, cwd=ROOT,
    )  # fmt: skip
    log = folder / "api.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "rater", "api"], env=environment, cwd=ROOT,
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)  # fmt: skip
    try:
        yield Client(port, pages, made.stdout.strip(), ssl.create_default_context(cafile=str(cert))), log
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def test_balances_changes_and_a_move_over_the_wire(kafka: KafkaCluster, tmp_path: Path):
    deployment = Deployment(kafka.bootstrap, f"api-{os.getpid()}", tmp_path).create()
    first = deployment.worker(1, RATER_INTERNAL_SECRET=SECRET)
    second = None
    ports = [first.port, free_ports(1)[0]]
    with ending(first), serving(deployment, ports) as (client, log):
        first.wait_running(2)
        deployment.feed("account-commands", [OPENED])
        base = "/v1/tenants/acme"
        assert client.until("GET", f"{base}/balance", lambda status, _: status == 200)["balance_micros"] == 0
        keys = map(str, itertools.count())

        def change(method: str, what: str, body: Any) -> Any:
            status, told, _ = client.ask(
                method, f"{base}/{what}", body, **{"Idempotency-Key": next(keys), "Prefer": "wait=20"}
            )
            assert (status, told.get("state")) == (200, "applied"), told
            return told

        change("POST", "licences", LICENCE)
        funded = change("POST", "funds", {"amount_micros": 50_000_000})
        assert client.ask("GET", f"/v1/commands/{funded['id']}")[1] == funded
        status, refused, _ = client.ask(
            "POST", f"{base}/funds", {"amount_micros": 1, "lot_id": funded["command_id"]},
            **{"Idempotency-Key": "taken", "Prefer": "wait=20"},
        )  # fmt: skip
        assert (status, refused["state"]) == (200, "rejected")
        assert refused["reason"] == "conflict: this id was used before with other content"
        client.until("GET", "/readyz", lambda status, told: (status, told) == (200, {"ready": True, "following": True}))
        with urllib.request.urlopen(f"http://127.0.0.1:{client.pages}/metrics", timeout=10) as page:
            assert b"rater_api_following 1.0" in page.read()
        deployment.feed("cdrs", [call(f"r-{n}") for n in range(20)])
        spent = client.until("GET", f"{base}/balance", lambda _, told: told.get("account_version") == 23)
        assert 0 < spent["balance_micros"] < 50_000_000

        second = deployment.worker(2, RATER_INTERNAL_SECRET=SECRET, RATER_WEB_PORT=str(ports[1]))
        second.port = ports[1]
        with ending(second):
            second.wait_running(1)
            assert first.stop() == 0
            second.wait_running(2)
            moved = client.until("GET", f"{base}/balance", lambda status, _: status == 200)
            assert moved["balance_micros"] == spent["balance_micros"]
            assert moved["reflects"]["next_command"] >= spent["reflects"]["next_command"]
            change("POST", "funds", {"amount_micros": 1})
            found = client.ask("GET", f"{base}/balance")[1]["balance_micros"]
            assert found == spent["balance_micros"] + 1
            with pytest.raises(urllib.error.HTTPError, match="401"):
                urllib.request.urlopen(f"http://127.0.0.1:{second.port}/live/acme", timeout=10)
            assert second.stop() == 0
        assert client.ask("GET", "/v1/tenants/other/balance")[0] == 404
        status, told, _ = client.ask("GET", f"{base}/balance")
        assert (status, told["detail"]) == (503, "the worker of this tenant does not answer now; ask again in a moment")
    for written in (log.read_text(), first.log(), second.log()):
        for secret in (SECRET, client.token.split("_", 2)[2], "+12125550123"):
            assert secret not in written
        assert "Traceback" not in written
