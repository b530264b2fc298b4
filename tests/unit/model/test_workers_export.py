"""Two workers go through a whole training run: the chief exports what one process would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heft import features as f
from heft.pod.rendezvous import free_address, tf_config
from tests.unit.model.rows import shop_graph
from tests.unit.model.test_export import Reloaded
from tests.unit.model.test_run import ROWS, facts, inputs, run

__all__ = ["inputs"]  # the fixture

# A control too: the second model begins while the chief still exports the first.
SETTINGS = {"hidden": [16], "epochs": 3, "learning_rate": 0.01, "dropout": 0.0, "control": True}
WORKER = """
import json, sys
from heft.model.materials import TrainingRun
from heft.model.run import train_and_export
from heft.model.settings import ModelSettings
from tests.unit.model.rows import SETTINGS
where, settings = json.loads(sys.argv[1]), json.loads(sys.argv[2])
train_and_export(TrainingRun(**where), ModelSettings.model_validate(settings), SETTINGS)
"""


@pytest.mark.slow
def test_the_chief_alone_exports_and_what_it_exports_is_what_one_process_would(
    inputs: Path, tmp_path: Path
) -> None:
    together = tmp_path / "together"
    where = {
        "train_files": [f"{inputs}/train/*"], "tune_files": [f"{inputs}/tune/*"],
        "transform_uri": shop_graph()._transform_output_dir, "embeddings_uri": f"{inputs}/table",
        "importance_uri": str(inputs),
    }  # fmt: skip
    addresses = [free_address() for _ in range(2)]
    processes = []
    for index in range(2):
        own = together / str(index)
        folders = {key: f"{own}/{key}" for key in ("model_dir", "control_dir", "log_dir")}
        folders["resume_dir"] = f"{own}/resume"
        command = [sys.executable, "-c", WORKER, json.dumps(where | folders), json.dumps(SETTINGS)]
        processes.append(
            subprocess.Popen(
                command, env=os.environ | {"TF_CONFIG": tf_config(addresses, index)}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip
    for process in processes:
        out, _ = process.communicate(timeout=500)
        assert process.returncode == 0, out[-3000:]
    assert not (together / "1").exists()
    run(inputs, tmp_path / "alone", **SETTINGS)
    for model in ("model", "control"):
        answers = Reloaded(together / "0" / f"{model}_dir").columns(ROWS)[f.CTR]
        alone = Reloaded(tmp_path / "alone" / model).columns(ROWS)[f.CTR]
        # Batch normalisation sees half a batch on each worker: close, not equal.
        assert np.abs(answers - alone).mean() < 0.05
        assert np.corrcoef(answers, alone)[0, 1] > 0.95
    losses = json.loads((together / "0" / "log_dir" / "history.json").read_text())
    one = facts(tmp_path / "alone", "history.json")
    for name in ("weighted", "control"):
        np.testing.assert_allclose(losses[name]["val_loss"], one[name]["val_loss"], rtol=0.05)
