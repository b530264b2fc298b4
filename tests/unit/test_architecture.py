"""Rules of the house that no other test would notice."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = sorted((ROOT / "src/heft").rglob("*.py"))
CODE = [
    path
    for folder in ("src", "components", "pipeline", "serving", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
CLI = ROOT / "src/heft/cli.py"
OPTIONS = CLI.with_name("cli_options.py")
COMMANDS = (CLI, *sorted(CLI.parent.glob("cli_*.py")))
# The parts of the project outside the library, and what they rest on.
OUTSIDE = {"tfx", "kfp", "components", "pipeline", "benchmarks", "tests"}


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node


def _reads_of_environment(path: Path) -> list[int]:
    """Lines that read an environment variable; setting one is not reading it."""
    found = []
    for node in ast.walk(_tree(path)):
        match node:
            case ast.Call(func=ast.Attribute(attr="getenv")):
                found.append(node.lineno)
            case ast.Call(func=ast.Attribute(ast.Attribute(attr="environ"), "get")):
                found.append(node.lineno)
            case ast.Subscript(value=ast.Attribute(attr="environ"), ctx=ast.Load()):
                found.append(node.lineno)
            case ast.Compare(comparators=[ast.Attribute(attr="environ")]):
                found.append(node.lineno)
            case ast.ImportFrom(module="os", names=names) if any(
                alias.name in ("environ", "getenv") for alias in names
            ):
                found.append(node.lineno)
    return found


def _tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("path", LIBRARY, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_library_stands_without_tfx(path: Path) -> None:
    for module, node in _imports(path):
        if path in COMMANDS and module.split(".")[0] == "pipeline":
            assert node not in _tree(path).body, "the command imports the pipeline at need only"
            continue
        assert module.split(".")[0] not in OUTSIDE, f"{path}:{node.lineno} imports {module}"


def test_no_import_is_relative_so_that_digests_follow_it() -> None:
    for folder in ("components", "serving", "src"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(_tree(path)):
                assert not (isinstance(node, ast.ImportFrom) and node.level), (
                    f"{path}:{node.lineno}"
                )


@pytest.mark.parametrize("folder", ["src", "pipeline", "components", "serving"])
def test_environment_variables_are_read_where_a_program_starts(folder: str) -> None:
    # The key of persons is read where they are, and is handed to nobody.
    allowed = {
        OPTIONS,
        ROOT / "src/heft/logs/privacy.py",
        *(ROOT / "pipeline").glob("run_*.py"),
    }
    for path in (ROOT / folder).rglob("*.py"):
        if path not in allowed:
            assert not _reads_of_environment(path), path


def test_the_command_reads_its_one_variable() -> None:
    """So that the test above can fail: it sees a read where there is one."""
    assert len(_reads_of_environment(OPTIONS)) == 1


def test_files_stay_readable_in_one_sitting() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    long = {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > 300}
    assert long == {}


def test_packages_and_public_modules_say_what_they_export() -> None:
    for path in LIBRARY:
        tree = _tree(path)
        assert ast.get_docstring(tree), f"{path} has no docstring"
        names = [t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets
                 if isinstance(t, ast.Name)]  # fmt: skip
        defines = any(isinstance(n, ast.FunctionDef | ast.ClassDef) for n in tree.body)
        assert "__all__" in names or not defines, f"{path} has no __all__"


def test_nothing_tracked_names_a_package_registry() -> None:
    """A lock with an index address would install from wherever it was made."""
    address = re.compile(
        rb"--(?:extra-)?index-url|files\.pythonhosted\.org|\bpypi\.org/simple|registry\s*=\s*[\"'{]"
    )
    for path in _tracked():
        if path == Path(__file__):
            continue
        found = address.search(path.read_bytes())
        assert found is None, f"{path} names {found[0]!r}" if found else ""


def test_every_pinned_package_has_a_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = [e for e in re.split(r"\n(?=\S)", text) if re.match(r"[A-Za-z0-9._-]+==", e)]
    assert len(entries) > 150
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert not re.search(r"https?://", text)
