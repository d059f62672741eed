"""The dashboards: what follows from their source, the 17 rules of Grafana's dashboard-linter, and that no metric is forgotten. That every
expression returns data is shown with real nodes: services/gateway/tests/observability.rs."""

import importlib.util
import json
import re

import pytest
import yaml

import grafana_schema
from support import ROOT, run, tool

GRAFANA = ROOT / "deploy/grafana"
PROMETHEUS = ROOT / "deploy/prometheus"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))

# Metrics that need no panel and no alert, each with the reason.
EXCEPTIONS = {}


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def variables(dashboard):
    return {variable["name"]: variable for variable in dashboard["templating"]["list"]}


def expressions(dashboard):
    """Of panels and annotations."""
    found = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
    return found + [note["expr"] for note in dashboard["annotations"]["list"] if "expr" in note]


def filled(expression):
    """With values for Grafana's variables."""
    for name, value in {"$__rate_interval": "1m", "$job": ".+", "$instance": ".+", "$cluster": ".*", "$namespace": ".*"}.items():
        expression = expression.replace(name, value)
    return expression


def metrics():
    return set(re.findall(r"^\| `(signalbox_\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))


def used(text):
    """The metrics that a text names, whatever part of a histogram it is."""
    names = set(re.findall(r"\bsignalbox_\w+", text))
    return names | {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def test_the_files_follow_from_their_source():
    spec = importlib.util.spec_from_file_location("build", GRAFANA / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    expected = build.outputs()
    places = [GRAFANA / "dashboards", ROOT / "helm/signalbox/files/grafana", ROOT / "helm/signalbox/files/prometheus"]
    found = {path: path.read_text(encoding="utf-8") for place in places for path in place.iterdir()}
    assert found == expected, "run cargo xtask docs"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_dashboard_linter(path):
    dashboard = load(path)
    known = variables(dashboard)
    # uneditable-dashboard
    assert dashboard["editable"] is False
    # template-datasource-rule
    assert known["datasource"]["type"] == "datasource" and known["datasource"]["query"] == "prometheus"
    assert known["datasource"]["label"] == "Data source"
    # template-job-rule, template-instance-rule, and the same for the others
    for name in ("job", "instance", "cluster", "namespace"):
        variable = known[name]
        assert variable["type"] == "query" and variable["multi"] and variable["datasource"]["uid"] == "${datasource}"
        assert variable["label"] == name.capitalize()
        assert variable["allValue"] == (".+" if name in ("job", "instance") else ".*")
        # template-label-promql-rule, template-on-time-change-reload-rule
        assert re.fullmatch(r"label_values\(signalbox_(?:turn_)?build_info(\{[^}]*\})?, \w+\)", variable["query"]["query"])
        assert variable["refresh"] == 2
    for panel in panels(dashboard):
        title = panel["title"]
        # panel-title-description-rule, panel-datasource-rule, panel-units-rule, panel-no-targets-rule
        assert title and len(panel["description"]) > 20, title
        assert panel["datasource"]["uid"] == "${datasource}" and panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["targets"] and panel["fieldConfig"]["defaults"]["thresholds"]["steps"], title
        for target in panel["targets"]:
            # target-logql-rule and target-logql-auto-rule are about Loki, which none of them asks.
            assert target["datasource"]["type"] == "prometheus", title
            expression = target["expr"]
            selectors = re.findall(r"[a-z_]+\{([^}]*)\}", expression)
            # target-job-rule, target-instance-rule
            assert selectors and all('job=~"$job"' in it and 'instance=~"$instance"' in it for it in selectors), (title, expression)
            # target-rate-interval-rule, target-counter-agg-rule
            assert all(window == "$__rate_interval" for window in re.findall(r"\[([^\]]*)\]", expression)), (title, expression)
            for before, _ in re.findall(r"(\w+\()?(\w+_total)\{", expression):
                assert before in ("rate(", "irate(", "increase("), (title, expression)
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(titles) == len(set(titles)), "titles that stand twice"


def test_the_dashboards_follow_grafanas_schema(tmp_path):
    dashboards = [load(path) for path in FILES]
    assert grafana_schema.judge(dashboards, tmp_path) == ""
    # It would notice a name that is misspelt, and a value that is of another type.
    first = next(iter(panels(dashboards[0])))
    misspelt = dashboards[0] | {"refesh": "30s"}
    mistyped = dashboards[0] | {"panels": [first | {"gridPos": {"x": 0, "y": 0, "w": "24", "h": 8}}]}
    unknown = dashboards[0] | {"panels": [first | {"options": first["options"] | {"colour": "loud"}}]}
    said = grafana_schema.judge([misspelt, mistyped, unknown], tmp_path)
    assert all(part in said for part in ("'\"refesh\"' does not exist", "'string' is not assignable to type 'number'", "colour")), said


def test_every_expression_parses(tmp_path):
    # target-promql-rule; promtool takes expressions only in rules.
    rules = [{"record": "x", "expr": filled(expression)} for path in FILES for expression in expressions(load(path))]
    file = tmp_path / "rules.yaml"
    promtool = tool("promtool")

    def judge(rules):
        for number, rule in enumerate(rules):
            rule["record"] = f"x{number}"
        file.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules}]}))
        return run(promtool, "check", "rules", file)

    result = judge(rules)
    assert len(rules) > 100 and result.returncode == 0, result.stderr
    assert judge([{"expr": "sum(rate(x_total[5m])"}]).returncode != 0


def test_panels_lead_to_a_section_that_is_there():
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for path in FILES:
        for panel in panels(load(path)):
            assert [link["url"].split("#")[0] for link in panel["links"]] == ["${runbooks}"]
            assert panel["links"][0]["url"].split("#")[1] in anchors, (path.name, panel["title"], panel["links"])


def test_no_metric_is_forgotten():
    texts = [filled(" ".join(expressions(load(path)))) for path in FILES]
    texts += [path.read_text() for path in (PROMETHEUS / "rules").glob("*.yaml")]
    shown = set().union(*map(used, texts))
    known = metrics()
    assert len(known) > 40
    assert known - shown - EXCEPTIONS.keys() == set(), "metrics without a panel: add one to deploy/grafana/build.py, and run cargo xtask docs"
    assert EXCEPTIONS.keys() & shown == set(), "exceptions that are none"


def test_no_metric_is_invented():
    names = [used(filled(" ".join(expressions(load(path))))) for path in FILES]
    names += [used(path.read_text()) for path in (PROMETHEUS / "rules").glob("*.yaml")]
    known = metrics()
    parts = {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    # Recording rules have names of their own.
    invented = {name for found in names for name in found if name not in known | parts}
    recorded = {record for path in (PROMETHEUS / "rules").glob("*.yaml") for record in re.findall(r"cluster_job:(signalbox_\w+)", path.read_text())}
    assert invented - recorded == set()
