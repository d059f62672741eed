"""Grafana's published schema (`@grafana/schema`): a compiler judges the dashboards as values of its TypeScript types. What is misspelt, missing
or of another type is an error."""

import json
import re

from support import ROOT, run

MODULES = ROOT / "deploy/checks/node_modules"
TYPES = MODULES / "@grafana/schema/dist/types"
# The parts that the dashboards are made of.
PARTS = {
    "common": "common/common.gen.d.ts",
    "dashboard": "raw/dashboard/x/types.gen.d.ts",
    "timeseries": "raw/composable/timeseries/panelcfg/x/types.gen.d.ts",
    "stat": "raw/composable/stat/panelcfg/x/types.gen.d.ts",
}
# What an annotation has besides: the query, which the schema leaves to the data source.
OF_DATASOURCE = ("expr", "step", "titleFormat", "textFormat", "useValueForTime")


def plain(types):
    """Types that a JSON document can have: an enum is the union of its values."""
    def union(found):
        values = re.findall(r'=\s*("[^"]*"|-?\d+)', found[2])
        return f"export type {found[1]} = {' | '.join(values)};"

    return re.sub(r"export declare enum (\w+) \{(.*?)\n\}", union, types, flags=re.DOTALL).replace("'@grafana/schema'", "'./common'")


def judge(dashboards, directory):
    """What the compiler says of them: nothing, where they are as they should be."""
    for name, path in PARTS.items():
        (directory / f"{name}.d.ts").write_text(plain((TYPES / path).read_text(encoding="utf-8")), encoding="utf-8")
    lines = ["import type { Dashboard } from './dashboard';", "import type * as timeseries from './timeseries';", "import type * as stat from './stat';"]

    def value(kind, it):
        lines.append(f"export const value{len(lines)}: {kind} = {json.dumps(it)};")

    for dashboard in dashboards:
        notes = [{name: it for name, it in note.items() if name not in OF_DATASOURCE} for note in dashboard["annotations"]["list"]]
        value("Dashboard", dashboard | {"annotations": {"list": notes}})
        for panel in (it for it in dashboard["panels"] if it["type"] != "row"):
            value(f"Partial<{panel['type']}.Options>", panel["options"])
            custom = panel["fieldConfig"]["defaults"].get("custom")
            if custom:
                value(f"{panel['type']}.FieldConfig", custom)
    file = directory / "check.ts"
    file.write_text("\n".join(lines), encoding="utf-8")
    flags = ["--noEmit", "--strict", "--skipLibCheck", "--pretty", "false", "--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler"]
    return run("node", MODULES / "typescript/bin/tsc", *flags, file).stdout
