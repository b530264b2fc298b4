"""The digest in TFX's cache key follows the code a node runs, and no other."""

import shutil
from pathlib import Path

import pytest

from pipeline import digest
from pipeline.digest import source_digest, source_files

ROOT = Path(__file__).parents[3]
PACKAGES = ("src/heft", "components", "serving", "pipeline")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project that a test may change."""
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / package, ignore=ignored)
    monkeypatch.setattr(digest, "_ROOT", tmp_path)
    return tmp_path


def _add_line(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n# one more line\n")


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("components.importance_estimator.executor", "components/importance_estimator/executor.py"),
        ("components.importance_estimator.executor", "src/heft/importance/combine.py"),
        # Reached through the package alone, whose __init__ registers it by name.
        ("components.importance_estimator.executor", "src/heft/importance/el2n.py"),
        ("components.importance_estimator.executor", "src/heft/importance/__init__.py"),
        ("components.importance_estimator.executor", "src/heft/features.py"),
        ("components.udfs", "src/heft/model/losses.py"),
        ("components.udfs", "src/heft/text/tokenizer.py"),
        ("components.log_example_gen.executor", "src/heft/logs/attribution.py"),
        ("components.report.executor", "src/heft/report/templates/report.html.j2"),
        ("components.report.executor", "src/heft/report/templates/report.css"),
        ("heft.simulate.simulation", "src/heft/simulate/shop.yaml"),
        ("serving.local_server", "serving/local/answers.py"),
    ],
)
def test_a_change_in_what_a_module_uses_changes_its_digest(
    tree: Path, module: str, changed: str
) -> None:
    before = source_digest(module)
    assert source_digest(module) == before
    _add_line(tree / changed)
    assert source_digest(module) != before


@pytest.mark.parametrize(
    "module", ["components.importance_estimator.executor", "components.udfs", "heft.transform"]
)
def test_installed_packages_have_the_digest_of_the_checkout(tree: Path, module: str) -> None:
    before = source_digest(module)
    (tree / "src/heft").rename(tree / "heft")
    (tree / "src").rmdir()
    assert source_digest(module) == before
    for path in source_files(module):
        if path.is_relative_to(tree / "heft"):
            _add_line(path)
            break
    else:
        pytest.fail(f"no file of the library among those of {module}")
    assert source_digest(module) != before


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("components.importance_estimator.executor", "src/heft/report/page.py"),
        ("components.importance_estimator.executor", "components/report/executor.py"),
        ("components.importance_estimator.executor", "src/heft/cli.py"),
        ("components.text_embedder.executor", "src/heft/importance/combine.py"),
        ("heft.transform", "src/heft/model/network.py"),
        ("components.log_example_gen.executor", "pipeline/config.py"),
    ],
)
def test_a_change_elsewhere_does_not(tree: Path, module: str, changed: str) -> None:
    before = source_digest(module)
    _add_line(tree / changed)
    assert source_digest(module) == before


def test_a_digest_does_not_depend_on_where_the_project_lies(tree: Path) -> None:
    there = source_digest("components.udfs")
    digest._ROOT = ROOT
    assert source_digest("components.udfs") == there


def test_two_files_that_swap_their_contents_change_the_digest(tree: Path) -> None:
    before = source_digest("heft.importance.combine")
    one, other = tree / "src/heft/importance/el2n.py", tree / "src/heft/importance/combine.py"
    one_text, other_text = one.read_bytes(), other.read_bytes()
    one.write_bytes(other_text)
    other.write_bytes(one_text)
    assert source_digest("heft.importance.combine") != before


def test_no_bytecode_and_no_other_project_is_in_a_digest() -> None:
    files = source_files("components.udfs", "serving.local_server", "components.report.executor")
    assert all(ROOT in path.parents for path in files)
    assert not [path for path in files if path.suffix == ".pyc" or "__pycache__" in path.parts]
    assert len(files) == len(set(files)) > 50
