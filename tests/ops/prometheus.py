"""A real Prometheus for tests: it scrapes what it is told to, and answers queries as Grafana asks them."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.kafka.broker import free_ports

ROOT = Path(__file__).resolve().parents[2]
OPS = ROOT / "ops"
PATIENCE_S = 90.0  # for what will happen on a busy machine; never a measure of anything
NOT_YET = 503


def tool(name: str) -> str:
    """Where a program of Debian's package `prometheus` is; without it a test is skipped, in CI it fails."""
    found = shutil.which(name)
    if found is not None:
        return found
    why = f"{name} is not installed (Debian: prometheus)"
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and {why}")
    pytest.skip(why)


class Prometheus:
    """Scrapes `jobs` (name -> host:port) every second, with the rules of ops/; `with Prometheus(...) as server:`."""

    def __init__(self, folder: Path, jobs: Mapping[str, Sequence[str]]) -> None:
        self._folder, self._port = folder, free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        self._program = tool("prometheus")
        scrapes = [{"job_name": name, "static_configs": [{"targets": list(targets)}]} for name, targets in jobs.items()]
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = {"global": every, "rule_files": [str(OPS / "prometheus" / "rules.yml")], "scrape_configs": scrapes}
        self._config = folder / "prometheus.yml"
        self._config.write_text(json.dumps(config))  # YAML is a superset of JSON

    def __enter__(self) -> "Prometheus":
        log = (self._folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [self._program, f"--config.file={self._config}", f"--storage.tsdb.path={self._folder / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{self._port}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            self.wait(lambda: self._ask("query", query="vector(1)") is not None, "Prometheus to answer")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _ask(self, what: str, **asked: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{what}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            if refused.code == NOT_YET:  # it listens before it is ready
                return None
            raise AssertionError(f"{asked}: {json.load(refused).get('error')}") from None
        except OSError:
            return None

    def wait(self, fulfilled: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not fulfilled():
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()[-3000:]
            assert time.monotonic() < deadline, f"expected {what}"
            time.sleep(0.2)

    def samples(self, query: str, since_s: float) -> list[float]:
        """Every number of every series that a panel would draw, from `since_s` (seconds since 1970) on."""
        data = self._ask("query_range", query=query, start=str(since_s), end=str(time.time()), step="1")
        return [float(value) for series in (data or {"result": []})["result"] for _, value in series["values"]]

    def value(self, query: str) -> float | None:
        data = self._ask("query", query=query)
        return float(data["result"][0]["value"][1]) if data and data["result"] else None

    def targets(self) -> dict[str, str]:
        """Job -> health, of what is scraped."""
        data = self._ask("targets") or {"activeTargets": []}
        return {target["labels"]["job"]: target["health"] for target in data["activeTargets"]}

    def rules(self) -> dict[str, str]:
        """Alert -> health: `ok` once it was evaluated without an error."""
        data = self._ask("rules") or {"groups": []}
        return {rule["name"]: rule["health"] for group in data["groups"] for rule in group["rules"]}
