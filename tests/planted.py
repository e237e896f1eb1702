"""Plant errors one by one and see the tests find them: `python tests/planted.py` writes tests/planted_results.md.

Each error is a replacement of one piece of source text, which must occur exactly once, in a copy of the tree in a temporary folder. The
named tests run there; an error counts as found when they fail. Before that the same tests must pass on the untouched copy.
"""
from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).with_name("planted_results.md")
TIMEOUT = 300


@dataclass(frozen=True)
class Error:
    """What is wrong, in which file, the text that is replaced, and the tests (pytest's arguments) that should notice."""
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


ERRORS: list[Error] = []


def copied(folder: Path) -> Path:
    """A copy of the tree in which `scratchgan.kernels` lies inside the package, so that nothing installed is imported instead."""
    tree = folder / "tree"
    ignore = shutil.ignore_patterns("__pycache__", ".*")
    for name in ("scratchgan", "tests"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    shutil.copytree(ROOT / "kernels", tree / "scratchgan" / "kernels", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tree)
    where = subprocess.run([sys.executable, "-c", "import scratchgan, scratchgan.kernels as k; print(scratchgan.__file__, k.__file__)"],
                           cwd=tree, env=environment(tree), capture_output=True, text=True, check=True).stdout.split()
    if not all(Path(path).is_relative_to(tree) for path in where):
        raise RuntimeError(f"the copy is not what would be tested: {where}")
    return tree


def environment(tree: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def place(tree: Path, file: str) -> Path:
    return tree / ("scratchgan/" + file if file.startswith("kernels/") else file)


def run_tests(tree: Path, tests: tuple[str, ...]) -> tuple[bool, str]:
    """Whether the tests pass, and the first that fails."""
    try:
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", *tests], cwd=tree,
                              env=environment(tree), capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return False, f"no end within {TIMEOUT} s"
    if done.returncode not in (0, 1, 2):                            # 2: the error already shows at import
        raise RuntimeError(f"pytest {' '.join(tests)} ended with status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-500:]}")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+(?: [^-]\S*)*)", done.stdout, re.M)
    return done.returncode == 0, failed.group(1) if failed else ""


def planted(tree: Path, error: Error) -> tuple[bool, str]:
    """Whether the tests find the error, and the first that does."""
    path = place(tree, error.file)
    source = path.read_text(encoding="utf-8")
    if source.count(error.old) != 1:
        raise ValueError(f"{error.what}: {error.old!r} occurs {source.count(error.old)} times in {error.file}, expected once")
    path.write_text(source.replace(error.old, error.new), encoding="utf-8")
    try:
        passed, first = run_tests(tree, error.tests)
    finally:
        path.write_text(source, encoding="utf-8")
    return not passed, first


def versions() -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"
    return f"commit {commit}, Python {platform.python_version()}"


def report(lines: list[tuple[Error, bool, str]]) -> str:
    found = sum(ok for _, ok, _ in lines)
    rows = [f"| {e.what} | `{e.file}` | {'found' if ok else '**missed**'} | `{first.replace('|', '/')}` |" for e, ok, first in lines]
    return "\n".join(["# Planted errors", "", f"{found} of {len(lines)} found ({versions()}). Written by `python tests/planted.py`.", "",
                      "| error | in | tests | first test that fails |", "|---|---|---|---|", *rows, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="errors whose description contains WORD; writes no results")
    only = parser.parse_args().only
    errors = [e for e in ERRORS if only in e.what]
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(Path(folder))
        for tests in sorted({e.tests for e in errors}):
            passed, first = run_tests(tree, tests)
            if not passed:
                print(f"without any error planted, {first} fails already ({' '.join(tests)})")
                return 1
        lines = []
        for error in errors:
            found, first = planted(tree, error)
            lines.append((error, found, first))
            print(f"{'found ' if found else 'MISSED'}  {error.what:<70} {first}", flush=True)
    if not only:
        RESULTS.write_text(report(lines), encoding="utf-8")
    return 0 if all(ok for _, ok, _ in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
