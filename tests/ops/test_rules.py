"""The alerts: each has stories that promtool has judged, metrics that exist, and a section an operator can act on."""

import re
import subprocess
from pathlib import Path

import pytest

from rater.doors.metrics import MediationMetrics, NotificationMetrics, RechargeMetrics, WorkerMetrics, new_registry
from rater.doors.metrics_api import ApiMetrics
from scripts.generate_dashboard import FILE as DASHBOARD
from tests.ops.prometheus import OPS, ROOT, tool

FOLDER = OPS / "prometheus"
RULES = (FOLDER / "rules.yml").read_text("utf-8")
STORIES = (FOLDER / "rules_test.yml").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
ALERTS = re.findall(r"- alert: (\w+)", RULES)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [tool("promtool"), *arguments]
    return subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False, timeout=120)


def declared() -> set[str]:
    """Every name that a scrape of our processes can hold."""
    registry = new_registry()
    for group in (WorkerMetrics, RechargeMetrics, NotificationMetrics, MediationMetrics, ApiMetrics):
        group(registry)
    names = set()
    for family in registry.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        names |= {family.name + end for end in ends}
    return names


def used(text: str) -> set[str]:
    return set(re.findall(r"\b(?:rater|process)_[a-z_]+", text))


def test_prometheus_takes_the_configuration_and_the_rules():
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_stories_about_the_alerts_come_true():
    tested = promtool("test", "rules", "rules_test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_story_that_is_not_true_is_told(tmp_path: Path):
    """The check itself can fail: rules that never fire do not pass."""
    (tmp_path / "rules.yml").write_text(RULES.replace('phase="stopped"}[1m]) == 1', 'phase="stopped"}[1m]) == 2'))
    (tmp_path / "rules_test.yml").write_text(STORIES)
    command = [tool("promtool"), "test", "rules", "rules_test.yml"]
    tested = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert tested.returncode != 0
    assert "RaterPartitionStopped" in tested.stdout + tested.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_fires_in_a_story_and_has_a_section_with_three_things_to_do(alert: str):
    fires = re.search(rf"alertname: {alert}\n\s+exp_alerts:\n\s+- exp_labels", STORIES)
    assert fires, f"no story in which {alert} fires"
    assert f"docs/operations.md#{alert.lower()}" in RULES
    section = re.search(rf"^### {alert}\n(.+?)(?=^### |^## |\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert section, f"docs/operations.md has no section {alert}"
    assert all(f"\n{number}. " in section[1] for number in (1, 2, 3)), f"{alert}: expected three things to do"


def test_alerts_and_sections_are_the_same_ones():
    assert len(ALERTS) == len(set(ALERTS))
    assert set(re.findall(r"^### (Rater\w+)", OPERATIONS, re.MULTILINE)) == set(ALERTS)


def test_every_metric_that_is_asked_for_is_declared():
    known = declared() | {"process_cpu_seconds_total"}
    for text in (RULES, STORIES, DASHBOARD.read_text("utf-8")):
        assert used(text) - known == set()
