"""docs/metrics.md says what rater/doors/metrics.py and metrics_api.py declare, row by row."""

from typing import Any

import pytest

from rater.doors.metrics import MediationMetrics, NotificationMetrics, RechargeMetrics, WorkerMetrics, new_registry
from rater.doors.metrics_api import ApiMetrics
from tests.ops.prometheus import ROOT

GROUPS = [WorkerMetrics, RechargeMetrics, NotificationMetrics, MediationMetrics, ApiMetrics]
PAGE = (ROOT / "docs" / "metrics.md").read_text("utf-8").splitlines()


def rows(group: Any) -> list[str]:
    """The table of a group of metrics, one row each, in the order of declaration."""
    found = []
    for metric in vars(group(new_registry())).values():
        if hasattr(metric, "_labelnames"):
            name = metric._name + ("_total" if metric._type == "counter" else "")
            labels = " ".join(f"`{label}`" for label in metric._labelnames)
            found.append(f"| `{name}` | {labels} | {metric._documentation} |")
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_each_metric_has_its_row(group: Any):
    missing = [row for row in rows(group) if row not in PAGE]
    assert not missing, "docs/metrics.md lacks:\n" + "\n".join(missing)


def test_no_row_is_about_a_metric_that_is_gone():
    told = {row for row in PAGE if row.startswith("| `")}
    assert told - {row for group in GROUPS for row in rows(group)} == set()
