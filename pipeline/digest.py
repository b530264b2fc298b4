"""A digest of the source a node depends on, for TFX's cache key.

TFX caches a node by its inputs and execution properties; the code of an
executor or of a function named by import path is in neither. Heft puts this
digest among the properties, so that a changed line runs again what needs it.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

__all__ = ["source_digest", "source_files"]

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("heft", "components", "serving")


def source_digest(*modules: str) -> str:
    """SHA-256 (first 16 hex digits) over `modules` and all they import of this project."""
    digest = hashlib.sha256()
    for path in sorted(source_files(*modules), key=_place):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _library() -> Path:
    """The folder that `heft` is in; installed, as in the image, all packages lie side by side."""
    source = _ROOT / "src"
    return source if (source / "heft").is_dir() else _ROOT


def _place(path: Path) -> Path:
    """Where a file is among the packages: the same in a checkout and where Heft is installed."""
    library = _library()
    return path.relative_to(library if path.is_relative_to(library) else _ROOT)


def source_files(*modules: str) -> list[Path]:
    """The project's files that `modules` reach by import, sorted."""
    seen: dict[str, Path] = {}
    queue = list(modules)
    while queue:
        name = queue.pop()
        path = _find(name)
        if path is None or name in seen:
            continue
        seen[name] = path
        queue += _imports(path)
        # A package's data files (templates, word lists) are part of what it does.
        if path.name == "__init__.py":
            seen |= {str(beside): beside for beside in _data_files(path.parent)}
    return sorted(set(seen.values()))


def _data_files(folder: Path) -> Iterator[Path]:
    """Files that are not code, in `folder` and in those below it that are no package."""
    for entry in folder.iterdir():
        if entry.name == "__pycache__":
            continue
        if entry.is_file() and entry.suffix not in (".py", ".pyc"):
            yield entry
        elif entry.is_dir() and not (entry / "__init__.py").is_file():
            yield from _data_files(entry)


@cache
def _imports(path: Path) -> tuple[str, ...]:
    return tuple(_imported_names(ast.parse(path.read_text(encoding="utf-8"))))


def _imported_names(tree: ast.Module) -> Iterator[str]:
    """`a.b`, its parents, and `a.b.c` for `from a.b import c`, which may be a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] in _PACKAGES:
                yield from _with_parents(name)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        yield ".".join(parts[:depth])


def _find(name: str) -> Path | None:
    base = _library() if name.split(".", maxsplit=1)[0] == "heft" else _ROOT
    place = base.joinpath(*name.split("."))
    for candidate in (place.with_suffix(".py"), place / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None
