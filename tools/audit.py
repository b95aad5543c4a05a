"""Ask whether the parts have known vulnerabilities: `make audit`.

pip-audit asks a vulnerability service about every version in constraints.txt and
docker/requirements.txt. Where the service cannot be reached, that is said in one line, and is no
failure; a vulnerability is, unless tools/audit-exceptions.toml says until when it is let pass, and
why.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
EXCEPTIONS = ROOT / "tools" / "audit-exceptions.toml"
AUDITED = (ROOT / "constraints.txt", ROOT / "docker" / "requirements.txt")
SECONDS = 15
"""How long the service may take for one answer."""

UNREACHABLE = "ConnectionError", "Could not connect", "not redirecting"
"""What pip-audit says when it is the service that fails."""


@dataclass(frozen=True, slots=True)
class Exemption:
    """A vulnerability that is let pass for a time."""

    id: str
    package: str
    reason: str
    until: date

    def is_about(self, name: str) -> bool:
        """Whether the package is this one, whose name is normalised."""
        return canonicalize_name(self.package) == name


@dataclass(frozen=True, slots=True)
class Verdict:
    """The lines to print, and whether the audit has failed."""

    lines: Sequence[str]
    failed: bool


def exemptions(text: str) -> list[Exemption]:
    """Read the exceptions; ValueError names one that lacks its reason or date."""
    found = []
    for entry in tomllib.loads(text).get("exception", []):
        try:
            exemption = Exemption(**entry)
        except TypeError as error:
            raise ValueError(f"{EXCEPTIONS.name}: {entry}: {error}") from error
        whole = type(exemption.until) is date and exemption.reason.strip()
        if not whole:
            raise ValueError(
                f"{EXCEPTIONS.name}: {exemption.id} needs a reason, and until = YYYY-MM-DD"
            )
        found.append(exemption)
    return found


def judge(document: Mapping[str, Any], exempted: Sequence[Exemption], today: date) -> Verdict:
    """What pip-audit's JSON document means, given the exceptions."""
    # A version stands in both files, and is asked about twice.
    asked = {canonicalize_name(each["name"]): each for each in document["dependencies"]}
    answered = {name: each for name, each in asked.items() if "skip_reason" not in each}
    if not answered:
        line = "audit: the vulnerability service knows none of the packages; nothing was audited"
        return Verdict([line], failed=False)
    lines, used, failed = [], set(), False
    for name, each in sorted(answered.items()):
        for vulnerability in each.get("vulns", []):
            names = {vulnerability["id"], *vulnerability.get("aliases", [])}
            what = f"{name} {each['version']}: {', '.join(sorted(names))}"
            fixed = ", ".join(vulnerability.get("fix_versions", [])) or "no version"
            match = next((e for e in exempted if e.id in names and e.is_about(name)), None)
            if match is not None:
                used.add(match)
            if match is None:
                lines.append(f"audit: {what}; fixed in {fixed}")
                failed = True
            elif match.until < today:
                lines.append(
                    f"audit: {what}: its exception ended on {match.until}; fixed in {fixed}"
                )
                failed = True
            else:
                lines.append(f"audit: {what}: let pass until {match.until}: {match.reason}")
    lines += [
        f"audit: {e.id} of {e.package} is found no more; remove it from {EXCEPTIONS.name}"
        for e in exempted
        if e not in used
    ]
    unknown = sorted(asked.keys() - answered.keys())
    if unknown:
        lines.append(f"audit: the service does not know {', '.join(unknown)}")
    end = "vulnerabilities that must be dealt with" if failed else "nothing to be dealt with"
    return Verdict([*lines, f"audit: {len(answered)} packages, {end}"], failed)


def run() -> Verdict:
    """Ask the service."""
    # One file after the other: pip-audit takes none without hashes beside one that has them.
    said = [ask(file) for file in AUDITED]
    return outcome(said, datetime.now(UTC).date())


def ask(file: Path) -> tuple[str, str]:
    """What pip-audit has to say of a list of requirements, on stdout and stderr."""
    done = subprocess.run(
        [
            sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--format", "json",
            "--progress-spinner", "off", "--timeout", str(SECONDS), "--requirement", str(file),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout, done.stderr


def outcome(said: Sequence[tuple[str, str]], today: date) -> Verdict:
    """What pip-audit's output about each file means."""
    dependencies: list[Any] = []
    for stdout, stderr in said:
        try:
            dependencies += json.loads(stdout)["dependencies"]
        except ValueError:
            if any(each in stderr for each in UNREACHABLE):
                line = "audit: the vulnerability service cannot be reached; nothing was audited"
                return Verdict([line], failed=False)
            return Verdict([f"audit: pip-audit failed:\n{stderr.strip()}"], failed=True)
    return judge({"dependencies": dependencies}, exemptions(EXCEPTIONS.read_text()), today)


def main() -> None:
    """Print what was found; the exit status is 1 when something must be dealt with."""
    verdict = run()
    sys.stdout.write("\n".join(verdict.lines) + "\n")
    sys.exit(verdict.failed)


if __name__ == "__main__":
    main()
