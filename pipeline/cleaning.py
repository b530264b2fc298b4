"""`heft clean`: what old runs left goes, what is served or will be needed stays."""

from collections.abc import Iterator
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from heft.errors import InputError
from heft.screen import journal_of, tell
from heft.storage import bytes_text
from heft.versions import versions
from pipeline.metadata_store import connection_of, opened
from pipeline.removing import remove
from pipeline.retention import Doomed, Kept, doomed
from pipeline.street import Street, places_of

__all__ = ["clean_runs"]

_SHOWN = 40  # folders that are listed one by one


def clean_runs(street: Street, *, keep: int, dry_run: bool) -> list[Doomed]:
    """Removes the outputs of runs before the newest `keep` finished ones.

    Args:
        street: of the config.
        keep: finished runs whose outputs stay.
        dry_run: list, and remove nothing.

    Raises:
        InputError: the config cannot be used, or it never ran.
        LockedError: another command is at work in the run's folder.
    """
    run_dir, console = street.run_dir, street.console
    config, places = street.load(run_dir), places_of(run_dir)
    if not Path(places.root).is_dir():
        raise InputError(f"{run_dir} holds no artifacts: expected the folder of a run")
    with street.alone("heft clean"):
        pushed = {str(version.source) for version in versions(places.serving)}
        kept = Kept(keep, pushed, config.model.base_model)
        with opened(connection_of(places, config.metadata)) as store:
            found = doomed(store, config.name, Path(places.root), kept)
            if not dry_run:
                remove(store, found, Path(places.root))
    if journal_of(console):
        for one in found:
            tell(console, "removed", str(one.folder), why=one.why, bytes=one.size, dry_run=dry_run)
    else:
        console.print(_table(found, run_dir))
    whole = bytes_text(sum(one.size for one in found))
    what = "would be removed" if dry_run else "removed"
    facts = {"folders": len(found), "bytes": sum(one.size for one in found), "dry_run": dry_run}
    tell(console, "cleaned", f"{len(found):,} folders, {whole} {what}", **facts)
    return found


def _table(found: list[Doomed], run_dir: Path) -> Table:
    table = Table.grid(padding=(0, 2))
    for one in _largest(found):
        shown = escape(str(one.folder.relative_to(run_dir)))
        table.add_row(f"  {bytes_text(one.size):>9}", shown, one.why)
    if len(found) > _SHOWN:
        table.add_row("", f"and {len(found) - _SHOWN:,} smaller ones", "")
    return table


def _largest(found: list[Doomed]) -> Iterator[Doomed]:
    yield from sorted(found, key=lambda one: -one.size)[:_SHOWN]
