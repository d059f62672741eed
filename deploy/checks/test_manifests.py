"""The plain manifests are valid, and say the same as the chart."""

import re
import tomllib

import pytest

from support import KUBERNETES, ROOT, objects, problems, render, succeed, tool

OVERLAYS = sorted(path.parent for path in (ROOT / "k8s/overlays").glob("*/kustomization.yaml"))
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)

# Labels that only Helm, or only kustomize, has a use for.
ONLY_HELM = ("helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/version")
# Objects that are the user's with the chart, or exist for Helm alone.
NOT_COMPARED = ("Namespace", "Pod")


def build(path):
    return objects(succeed(tool("kubectl"), "kustomize", path))


@each_overlay
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_schemas(overlay, version):
    assert problems(build(overlay), version) == []


def test_the_base_is_valid_by_itself():
    assert problems(build(ROOT / "k8s/base"), KUBERNETES[-1]) == []


@each_overlay
def test_everything_is_in_the_namespace(overlay):
    items = build(overlay)
    assert {item["metadata"].get("namespace") for item in items if item["kind"] != "Namespace"} == {"signalbox"}


@each_overlay
def test_the_manifests_say_what_the_chart_says(overlay):
    chart = normal(render("--values", str(overlay / "chart-values.yaml")))
    manifests = normal(build(overlay))
    assert chart.keys() == manifests.keys()
    differences = [each for key in chart for each in compare(chart[key], manifests[key], key)]
    assert not differences, "\n".join(differences)


def test_the_comparison_finds_what_differs():
    left = {"a": [{"name": "x", "v": 1}, {"name": "y"}], "b": 1, "c": [1, 2]}
    assert not list(compare(left, left, "o"))
    assert list(compare(left, {"a": [{"name": "y"}, {"name": "x", "v": 2}], "b": 1, "c": [1, 2]}, "o")) == ["o.a[x].v: 1 in the chart, 2 in the manifests"]
    assert len(list(compare(left, {"a": [{"name": "x", "v": 1}], "c": [2, 1]}, "o"))) == 4


def normal(items):
    """Objects by kind and name, without what differs for good reasons: a generated name, checksums, labels of the tools."""
    found = {}
    for item in items:
        if item["kind"] in NOT_COMPARED:
            continue
        text = _without_hash(item)
        text["metadata"].pop("namespace", None)
        for metadata in (text["metadata"], text.get("spec", {}).get("template", {}).get("metadata", {})):
            metadata["labels"] = {key: value for key, value in metadata.get("labels", {}).items() if key not in ONLY_HELM}
            annotations = {key: value for key, value in metadata.pop("annotations", {}).items() if not key.startswith("checksum/")}
            if annotations:
                metadata["annotations"] = annotations
        if item["kind"] == "ConfigMap":
            text["data"] = {name: tomllib.loads(file) for name, file in text["data"].items()}
        found[f"{text['kind']} {text['metadata']['name']}"] = text
    return found


def _without_hash(value):
    if isinstance(value, dict):
        return {key: _without_hash(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_hash(inner) for inner in value]
    if isinstance(value, str):
        return re.sub(r"^(signalbox-(?:gateway|turn))-[a-z0-9]{10}$", r"\1", value)
    return value


def compare(chart, manifests, path):
    """One line for each difference. Lists of named things are compared by name, others in order."""
    if isinstance(chart, dict) and isinstance(manifests, dict):
        for key in sorted(chart.keys() | manifests.keys()):
            if key not in manifests:
                yield f"{path}.{key}: only in the chart"
            elif key not in chart:
                yield f"{path}.{key}: only in the manifests"
            else:
                yield from compare(chart[key], manifests[key], f"{path}.{key}")
    elif isinstance(chart, list) and isinstance(manifests, list) and _named(chart) and _named(manifests):
        left, right = ({each["name"]: each for each in side} for side in (chart, manifests))
        for name in sorted(left.keys() | right.keys()):
            if name not in left or name not in right:
                yield f"{path}[{name}]: only in the {'chart' if name in left else 'manifests'}"
            else:
                yield from compare(left[name], right[name], f"{path}[{name}]")
    elif isinstance(chart, list) and isinstance(manifests, list) and len(chart) == len(manifests):
        for number, (left, right) in enumerate(zip(chart, manifests)):
            yield from compare(left, right, f"{path}[{number}]")
    elif chart != manifests:
        yield f"{path}: {chart} in the chart, {manifests} in the manifests"


def _named(items):
    return bool(items) and all(isinstance(each, dict) and "name" in each for each in items)
