"""What pytest reports on golden files: those it wrote, and those that no test asked for.

What a test did is in its report, which also comes from the processes of pytest-xdist.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from streams.testing.golden import FOLDER, SUFFIX, Golden, folder_of

_ATTRIBUTE = "clv_golden"


class GoldenFiles:
    """A plugin of its own, one for each run."""

    def __init__(self) -> None:
        self.this_run: dict[Path, str] = {}
        """What was written by this process, by file."""
        self._partly: set[Path] = set()
        self._tests: Counter[Path] = Counter()
        self._passed: Counter[Path] = Counter()
        self._of_module: dict[Path, int] = {}
        self._used: defaultdict[Path, set[Path]] = defaultdict(set)
        self._written: dict[Path, None] = {}

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Note the modules of which not all tests run."""
        self._partly.update(item.path for item in items)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count the tests of each module."""
        self._tests.update(item.path for item in session.items)
        if any("::" in argument for argument in session.config.args):
            self._partly.update(self._tests)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Any:
        """Add to the report of a test what it did with golden files."""
        outcome = yield
        report = outcome.get_result()
        golden = getattr(item, "funcargs", {}).get("golden")
        told = golden if isinstance(golden, Golden) else None
        if report.when == "call" and (told is not None or folder_of(item.path).is_dir()):
            done = {
                "module": str(item.path),
                "tests": 0 if item.path in self._partly else self._tests[item.path],
                "used": [str(path) for path in told.used] if told else [],
                "written": [str(path) for path in told.written] if told else [],
            }
            setattr(report, _ATTRIBUTE, done)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test did."""
        done = getattr(report, _ATTRIBUTE, None)
        if done is None:
            return
        module = Path(done["module"])
        self._of_module[module] = done["tests"]
        self._passed[module] += report.passed
        self._used[module].update(map(Path, done["used"]))
        self._written |= dict.fromkeys(map(Path, done["written"]))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Tell what was written, and what is in the way."""
        self._tell(terminalreporter, "golden files written", list(self._written))
        self._tell(terminalreporter, "golden files that no test asks for", self.unused())

    def unused(self) -> list[Path]:
        """Files of modules of which all tests have passed, and of modules that are gone."""
        found = set()
        for module, tests in self._of_module.items():
            if tests and self._passed[module] == tests:
                found |= set(folder_of(module).glob(f"*{SUFFIX}")) - self._used[module]
            for folder in (module.parent / FOLDER).glob("*/"):
                if not module.with_name(f"{folder.name}.py").exists():
                    found |= set(folder.glob(f"*{SUFFIX}"))
        return sorted(found)

    def _tell(self, reporter: Any, title: str, paths: list[Path]) -> None:
        if paths:
            reporter.section(title)
            for path in paths:
                root = reporter.config.rootpath
                reporter.line(str(path.relative_to(root) if path.is_relative_to(root) else path))
