"""What a public project has beside its code: workflows, notes of releases, and documentation whose links lead somewhere."""

import re
import tomllib

import pytest
import yaml

from support import CHART, ROOT, run, succeed, tool

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
RELEASE = ROOT / ".github/workflows/release.yml"


def workspace():
    return tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]


def version():
    return workspace()["package"]["version"]


def test_workflows_are_valid():
    succeed(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)
    succeed(tool("check-jsonschema"), "--builtin-schema", "vendor.dependabot", ROOT / ".github/dependabot.yml")


def test_actionlint():
    succeed(tool("actionlint"), *WORKFLOWS)


def test_workflows_give_nothing_away():
    # Pinned actions, least permissions, no templates in scripts, no credentials that stay.
    succeed(tool("zizmor"), "--offline", "--no-progress", "--quiet", ROOT / ".github")


def test_every_action_is_pinned_to_a_commit_and_says_its_version():
    for path in WORKFLOWS:
        for used in re.findall(r"uses: (.+)", path.read_text()):
            assert used.startswith("./.github/workflows/") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", used), f"{path.name}: {used}"


def test_scripts_in_workflows_are_valid():
    for path in WORKFLOWS:
        for name, job in yaml.safe_load(path.read_text())["jobs"].items():
            for step in job.get("steps", []):
                if "run" in step and "${{" not in step["run"]:
                    result = run(tool("bash"), "-n", input=step["run"])
                    assert result.returncode == 0, f"{path.name}, {name}: {result.stderr}"


def test_releases_push_the_image_that_chart_compose_and_manifests_name():
    pushed = yaml.safe_load(RELEASE.read_text())["env"]["IMAGE"]
    named = yaml.safe_load((CHART / "values.yaml").read_text())["gateway"]["image"]["repository"]
    assert pushed.replace("${{ github.repository_owner }}", "signalbox") == named
    assert f"`{named}`" in (ROOT / "docs/kubernetes.md").read_text()


def test_notes_of_a_release_have_its_section_and_its_commits():
    notes = succeed(ROOT / ".ci/release-notes", f"v{version()}")
    section = (ROOT / "CHANGELOG.md").read_text().split(f"## [{version()}]\n")[1].split("\n## ")[0].strip()
    assert notes.startswith(section) and "## Commits\n\n- " in notes
    for wrong in (f"v{version()}0", "v0", version().replace(".", "x")):
        result = run(ROOT / ".ci/release-notes", wrong)
        assert result.returncode != 0 and result.stdout == "" and "the tag is" in result.stderr


@pytest.mark.parametrize("name", ["README.md", "LICENSE-MIT", "LICENSE-APACHE", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_a_public_project_has(name):
    assert (ROOT / name).stat().st_size > 500


def test_links_in_the_documentation_lead_somewhere():
    pages = succeed(tool("git"), "ls-files", "--", "*.md").splitlines()
    # It becomes the head of the chart's README, and its links are right there.
    pages.remove("xtask/src/deploy/readme-head.md")
    # Files and their headings; what is elsewhere is not asked.
    succeed(tool("lychee"), "--offline", "--include-fragments", "--no-progress", "--root-dir", ROOT, *pages)
