"""Where a run keeps things."""

from dataclasses import dataclass

__all__ = ["Places"]


@dataclass(frozen=True)
class Places:
    """The folders and files of one run.

    Attributes:
        root: artifacts of all nodes.
        metadata: the SQLite file of ML Metadata.
        serving: folder that the server polls; versions are pushed below it.
        schema_file: the reviewed schema, None to have one inferred. Its path has to
            change with its content, as TFX's cache looks at nothing else.
    """

    root: str
    metadata: str
    serving: str
    schema_file: str | None = None
