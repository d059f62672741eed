"""Prometheus' configuration, recording rules and alerts, judged by promtool; and the runbook of each alert."""

import re

import pytest
import yaml

from support import CHART, ROOT, one, render, succeed, tool

PROMETHEUS = ROOT / "deploy/prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yaml"))
RUNBOOK = ROOT / "docs/operations.md"


def alerts():
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_promtool_takes_the_configuration():
    succeed(tool("promtool"), "check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml")


def test_promtool_takes_the_rules():
    succeed(tool("promtool"), "check", "rules", "--lint-fatal", *RULES)


def test_the_rule_for_autoscaling_makes_the_metric_that_the_chart_asks_for(tmp_path):
    rule = yaml.safe_load((PROMETHEUS / "adapter.yaml").read_text())["rules"]["custom"][0]
    autoscaler = one(render("--values", str(CHART / "ci/autoscaling.yaml")), "HorizontalPodAutoscaler")
    asked = next(each["pods"] for each in autoscaler["spec"]["metrics"] if each["type"] == "Pods")
    assert asked["metric"] == {"name": rule["name"]["as"]} and asked["target"] == {"type": "AverageValue", "averageValue": "20000"}
    # As the adapter fills it in.
    filled = {"<<.GroupBy>>": "pod", "<<.Series>>": "signalbox_connections", "<<.LabelMatchers>>": 'namespace="a",pod=~"b|c"'}
    query = rule["metricsQuery"]
    for ours, theirs in filled.items():
        query = query.replace(ours, theirs)
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"groups": [{"name": "adapter", "rules": [{"record": "asked", "expr": expr} for expr in (query, rule["seriesQuery"])]}]}))
    succeed(tool("promtool"), "check", "rules", rules)


def test_every_alert_fires_and_resolves():
    tests = yaml.safe_load((PROMETHEUS / "tests/alerts.yaml").read_text())["tests"]
    assert [test["name"] for test in tests] == [alert["alert"] for alert in alerts()]
    for test in tests:
        fires, resolves = test["promql_expr_test"]
        assert fires["exp_samples"] == [{"value": 1}] and resolves["exp_samples"] == [], test["name"]
        assert all(f'alertname="{test["name"]}"' in it["expr"] for it in (fires, resolves)), test["name"]
    succeed(tool("promtool"), "test", "rules", PROMETHEUS / "tests/alerts.yaml")


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_has_a_runbook(alert):
    name = alert["alert"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert {"summary", "description", "runbook_url"} <= alert["annotations"].keys()
    assert alert["annotations"]["runbook_url"] == f"docs/operations.md#{name.lower()}"
    section = re.search(rf"^#### {name}$(.*?)(?=^#|\Z)", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    assert section, f"docs/operations.md has no section {name}"
    for part in ("**Means:**", "**Look at:**", "**Do:**"):
        assert part in section[1], f"{name}: {part}"
