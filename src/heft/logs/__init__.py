"""Logs in, examples out: reading, attribution, quarantine, splitting.

`heft.logs.ingest.ingest` runs it all; what is here is light to import.
"""

from heft.logs.files import input_fingerprint
from heft.logs.preflight import Preflight, preflight
from heft.logs.settings import LogsSettings, SplitSettings, StreamSettings

__all__ = [
    "LogsSettings", "Preflight", "SplitSettings", "StreamSettings", "input_fingerprint",
    "preflight",
]  # fmt: skip
