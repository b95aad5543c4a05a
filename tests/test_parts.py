"""What the service is made of: the lock of the image, the list of parts, and their audit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.audit import EXCEPTIONS, exemptions, judge, outcome
from tools.lock import lock_text, wanted

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "docker" / "requirements.txt").read_text()
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TODAY = date(2026, 11, 28)


def lines(text: str) -> list[str]:
    """The lines of a list of requirements."""
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def versions(text: str) -> dict[str, str]:
    """Names and exact versions."""
    pairs = (line.split()[0].split("==") for line in lines(text))
    return {canonicalize_name(name): version for name, version in pairs}


def needed(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """What an installed package needs on the image's platform."""
    for text in requires(name) or ():
        need = Requirement(text)
        marker = need.marker
        environments = [{"extra": extra, "python_version": "3.11"} for extra in (extras or {""})]
        if marker is None or any(marker.evaluate(each) for each in environments):
            yield canonicalize_name(need.name), frozenset(need.extras)


def test_every_line_of_the_lock_is_an_exact_version_with_a_hash_and_names_no_index():
    for line in lines(LOCK):
        assert re.fullmatch(r"[\w.-]+==[\w.]+( --hash=sha256:[0-9a-f]{64})+", line), line
    assert "://" not in LOCK
    assert "index" not in LOCK


def test_constraints_are_exact_versions_and_name_no_index():
    for line in lines(CONSTRAINTS):
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_the_lock_has_the_versions_that_the_tests_run_with():
    constrained = versions(CONSTRAINTS)
    locked = versions(LOCK)
    assert locked.pop("setuptools")
    assert {name: constrained.get(name) for name in locked} == locked


def test_the_lock_has_all_that_the_service_needs_and_what_that_needs():
    locked = versions(LOCK)
    waiting = [
        (canonicalize_name(need.name), frozenset(need.extras))
        for need in map(Requirement, wanted(PROJECT))
    ]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        assert name in locked, name
        if name == "setuptools":
            continue
        try:
            more = set(needed(name, extras))
        except PackageNotFoundError:
            pytest.fail(f"{name} is not installed: run `make test`")
        waiting += more - seen
        seen |= more
    assert {name for name, _ in seen} == set(locked)


def test_the_locks_versions_are_those_that_pyproject_asks_for():
    locked = versions(LOCK)
    for need in map(Requirement, wanted(PROJECT)):
        assert need.specifier.contains(locked[canonicalize_name(need.name)]), need


def test_the_lock_is_written_out_of_what_pip_resolves():
    report = {
        "install": [
            {
                "metadata": {"name": name, "version": version},
                "download_info": {
                    "url": "https://index.example/x.whl",
                    "archive_info": {"hashes": {"sha256": digest}},
                },
            }
            for name, version, digest in (("b", "2", "ff"), ("A", "1", "00"))
        ]
    }
    assert lines(lock_text(report)) == ["A==1 --hash=sha256:00", "b==2 --hash=sha256:ff"]


def sbom(tmp_path: Path, *arguments: str) -> dict[str, dict]:
    """The components that the list of parts has, by name."""
    if find_spec("cyclonedx_py") is None:
        pytest.skip("cyclonedx-bom is not installed: pip install -e '.[parts]'")
    file = tmp_path / "sbom.json"
    subprocess.run(
        [
            sys.executable, "-m", "cyclonedx_py", *arguments[:1], "--output-reproducible",
            "--output-file", str(file), *arguments[1:],
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    document = json.loads(file.read_text())
    assert document["bomFormat"] == "CycloneDX"
    return {canonicalize_name(each["name"]): each for each in document["components"]}


def test_the_list_of_the_images_parts_has_each_dependency_with_its_version_and_hash(tmp_path):
    parts = sbom(tmp_path, "requirements", str(ROOT / "docker" / "requirements.txt"))
    locked = versions(LOCK)
    assert {name: part["version"] for name, part in parts.items()} == locked
    for line in lines(LOCK):
        name = canonicalize_name(line.split("==")[0])
        [digest] = re.findall(r"[0-9a-f]{64}", line)
        assert digest in json.dumps(parts[name]), name


@pytest.mark.slow
def test_the_list_of_the_environments_parts_has_each_dependency_of_the_service(tmp_path):
    parts = sbom(tmp_path, "environment", sys.executable)
    assert versions(LOCK).keys() - {"setuptools"} <= parts.keys()


def test_make_lists_the_parts_as_these_tests_do():
    text = (ROOT / "Makefile").read_text()
    assert "cyclonedx_py requirements" in text
    assert "cyclonedx_py environment" in text
    assert "docker/requirements.txt" in text


def answered(name: str, *vulnerabilities: str, version: str = "1.0") -> dict:
    """What pip-audit says of a package."""
    found = [
        {"id": each, "aliases": [f"alias-of-{each}"], "fix_versions": ["1.1"]}
        for each in vulnerabilities
    ]
    return {"name": name, "version": version, "vulns": found}


def unknown(name: str) -> dict:
    """What pip-audit says of a package that the service does not know."""
    return {"name": name, "skip_reason": f"Dependency not found: {name}"}


EXCEPTION = """
[[exception]]
id = "CVE-1"
package = "aiohttp"
reason = "not reachable"
until = 2026-12-31
"""


def test_a_vulnerability_fails_the_audit_and_is_told_with_the_version_that_has_it_no_more():
    verdict = judge({"dependencies": [answered("aiohttp", "CVE-1"), answered("redis")]}, [], TODAY)
    assert verdict.failed
    assert "aiohttp 1.0: CVE-1, alias-of-CVE-1; fixed in 1.1" in verdict.lines[0]


def test_an_exception_lets_one_vulnerability_of_one_package_pass_until_its_date():
    exempted = exemptions(EXCEPTION)
    one = {"dependencies": [answered("aiohttp", "CVE-1")]}
    verdict = judge(one, exempted, TODAY)
    assert not verdict.failed
    assert "let pass until 2026-12-31: not reachable" in verdict.lines[0]
    assert judge(one, exempted, date(2027, 1, 1)).failed
    assert judge({"dependencies": [answered("aiohttp", "CVE-2")]}, exempted, TODAY).failed
    assert judge({"dependencies": [answered("redis", "CVE-1")]}, exempted, TODAY).failed


def test_an_exception_may_name_the_vulnerability_by_any_of_its_names():
    exempted = exemptions(EXCEPTION.replace("CVE-1", "alias-of-CVE-1"))
    verdict = judge({"dependencies": [answered("aiohttp", "CVE-1")]}, exempted, TODAY)
    assert not verdict.failed


def test_an_exception_that_is_needed_no_more_is_told():
    verdict = judge({"dependencies": [answered("aiohttp")]}, exemptions(EXCEPTION), TODAY)
    assert not verdict.failed
    assert "CVE-1 of aiohttp is found no more" in verdict.lines[0]


@pytest.mark.parametrize("without", ["reason", "until", "package", "id"])
def test_an_exception_needs_its_reason_and_its_date(without):
    text = "\n".join(line for line in EXCEPTION.splitlines() if not line.startswith(without))
    with pytest.raises(ValueError, match=without):
        exemptions(text)
    with pytest.raises(ValueError, match="reason"):
        exemptions(EXCEPTION.replace("not reachable", " "))


def test_a_service_that_knows_nothing_has_audited_nothing():
    """pip-audit itself calls that "No known vulnerabilities found"."""
    verdict = judge({"dependencies": [unknown("aiohttp"), unknown("redis")]}, [], TODAY)
    assert not verdict.failed
    assert list(verdict.lines) == [
        "audit: the vulnerability service knows none of the packages; nothing was audited"
    ]


def test_packages_that_the_service_does_not_know_are_named():
    verdict = judge({"dependencies": [unknown("aiohttp"), answered("redis")]}, [], TODAY)
    assert not verdict.failed
    assert "the service does not know aiohttp" in verdict.lines[0]
    assert "1 packages" in verdict.lines[-1]


def test_a_service_that_cannot_be_reached_is_one_line_and_no_failure():
    said = "ERROR:pip_audit._cli:Could not connect to the service's vulnerability feed"
    verdict = outcome([("", said)], TODAY)
    assert not verdict.failed
    assert list(verdict.lines) == [
        "audit: the vulnerability service cannot be reached; nothing was audited"
    ]


def test_all_files_are_judged_together():
    def said(*packages: dict) -> tuple[str, str]:
        return json.dumps({"dependencies": packages}), ""

    verdict = outcome([said(answered("redis")), said(answered("aiohttp", "CVE-9"))], TODAY)
    assert verdict.failed
    assert "2 packages" in verdict.lines[-1]


def test_an_audit_that_breaks_for_another_reason_fails_and_says_why():
    verdict = outcome([("", "No module named pip_audit")], TODAY)
    assert verdict.failed
    assert "No module named pip_audit" in verdict.lines[0]


def test_the_exceptions_that_are_in_force_are_whole():
    assert isinstance(exemptions(EXCEPTIONS.read_text()), list)


def test_ci_audits():
    assert "make audit" in (ROOT / ".ci/run").read_text()
