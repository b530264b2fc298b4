"""What a Beam worker imports before any step: `--beam_plugin=heft.worker_plugin`.

TFDV 1.16 imports `tfx_bsl.arrow.sql_util` for SQL slices, which tfx-bsl 1.21 no longer has and
Heft does not use. TFX puts a mock in its place when it is imported; a worker imports TFDV without
TFX, and finds this one.
"""

import importlib.util
import sys
from types import ModuleType

__all__: list[str] = []

_MISSING = "tfx_bsl.arrow.sql_util"

if _MISSING not in sys.modules and importlib.util.find_spec(_MISSING) is None:
    stand_in = ModuleType(_MISSING)
    stand_in.RecordBatchSQLSliceQuery = type("RecordBatchSQLSliceQuery", (), {})  # type: ignore[attr-defined]
    sys.modules[_MISSING] = stand_in
    importlib.import_module("tfx_bsl.arrow").sql_util = stand_in  # type: ignore[attr-defined]
