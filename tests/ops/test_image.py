"""The Dockerfile, without an engine: what hadolint says, and the promises it makes about users, versions and secrets."""

import http.server
import re
import subprocess
import sys
import threading
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "Dockerfile").read_text("utf-8")
HEALTHCHECK = ROOT / "ops" / "docker" / "healthcheck.py"


def instructions() -> list[tuple[str, str]]:
    """(keyword, rest) of every instruction, continued lines put together."""
    lines = [line for line in TEXT.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in joined.splitlines())]


def all_of(keyword: str) -> list[str]:
    return [rest for found, rest in instructions() if found == keyword]


def test_hadolint_finds_nothing():
    program = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([program, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_is_built_in_stages_on_one_base_pinned_to_a_patch_version():
    bases = all_of("FROM")
    assert len(bases) == 2
    assert {re.fullmatch(r"(python:3\.\d+\.\d+-slim-\w+)( AS \w+)?", base)[1] for base in bases} == {bases[1]}  # type: ignore[index]


def test_it_runs_as_a_numbered_user_who_is_not_root():
    after_base = instructions()[[keyword for keyword, _ in instructions()].index("FROM", 1) :]
    users = [rest for keyword, rest in after_base if keyword == "USER"]
    assert users == ["10001:10001"]
    assert "rater warm-up" in [rest for keyword, rest in after_base if keyword == "RUN"][-1]


def test_dependencies_come_by_hash_and_nothing_comes_from_an_address():
    assert "--require-hashes --requirement requirements-image.lock" in TEXT
    assert not all_of("ADD")
    assert not re.search(r"https?://", "".join(rest for _, rest in instructions()))
    lock = (ROOT / "requirements-image.lock").read_text("utf-8")
    for package in (
        "aiokafka",
        "aiosmtplib",
        "faust-streaming",
        "jinja2",
        "openpyxl",
        "psycopg",
        "pyarrow",
        "stripe",
        "tenacity",
    ):
        assert re.search(rf"^{package}==", lock, re.MULTILINE), f"requirements-image.lock lacks {package}"
    assert not re.search(r"^(pytest|mypy|ruff)==", lock, re.MULTILINE)


def test_it_says_how_it_is_and_takes_a_signal():
    assert len(all_of("HEALTHCHECK")) == 1
    assert all_of("STOPSIGNAL") == ["SIGTERM"]
    assert all_of("ENTRYPOINT") == ['["rater"]']  # no shell between the signal and the process


def test_what_it_copies_is_there_and_is_sent_to_the_builder():
    patterns = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert patterns[0] == "*", "expected everything to be left out, but for what is named"
    sent = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    sources = [
        source
        for rest in all_of("COPY")
        if "--from=" not in rest
        for source in [word for word in rest.split() if not word.startswith("--")][:-1]
    ]
    assert set(sources) == sent
    for source in sources:
        assert (ROOT / source).exists(), source
    assert any(fnmatch("rater/__pycache__", pattern.replace("**", "*")) for pattern in patterns[1:])


@pytest.mark.parametrize("keyword", ["ENV", "ARG", "LABEL"])
def test_no_secret_is_baked_in(keyword: str):
    assert not re.search(r"PASSWORD|SECRET|TOKEN|_KEY", " ".join(all_of(keyword)))


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_the_health_check_is_quiet_about_a_healthy_process_and_fails_on_every_other():
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"http://127.0.0.1:{server.server_port}"
        asked = {path: check(f"{here}/{path}") for path in ("healthz", "broken")}
        server.shutdown()
    nobody = check(f"{here}/healthz")
    assert (asked["healthz"].returncode, asked["healthz"].stderr) == (0, "")
    assert asked["broken"].returncode == 1
    assert nobody.returncode == 1
    assert here in nobody.stderr


def check(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, HEALTHCHECK, url], capture_output=True, text=True, check=False)
