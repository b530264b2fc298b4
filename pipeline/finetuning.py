"""`heft finetune`: an encoder that has learned from the clicks of a config's log."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import yaml
from rich.console import Console

from heft.whole_file import write_whole
from pipeline.street import Prepared, Street, prepare

__all__ = ["OVERLAY", "run_finetune"]

OVERLAY = "finetuned.yaml"


def run_finetune(street: Street) -> Path:
    """Fine-tunes and returns the overlay that names the new encoder.

    The nodes up to Transform run first, from the cache where they can; up to
    ImportanceEstimator where clicks count by their weights. A fine-tuning that was killed
    goes on where it was when it is repeated.

    Raises:
        InputError: config, logs or encoder cannot be used.
        GateError: a gate stopped the nodes.
        LockedError: another command is at work in the run's folder.
    """
    with street.alone("heft finetune"):
        return _run(street)


def _run(street: Street) -> Path:
    ready = _with_settings(prepare(street))
    # TFX, which takes its time to import.
    from pipeline.pipeline import create_finetuning_pipeline
    from pipeline.running import run_nodes

    pipeline = create_finetuning_pipeline(ready.config, ready.places(), ready.fingerprint)
    told = logging.getLogger("heft.text.finetune_run"), logging.getLogger("heft.text.finetune")
    lines = _Lines(street.console)
    for logger in told:
        logger.addHandler(lines)
    try:
        outputs = run_nodes(pipeline, ready, street).outputs
    finally:
        for logger in told:
            logger.removeHandler(lines)
    return _hand_over(ready, Path(outputs["FineTuner"]["encoder"]), street)


def _with_settings(ready: Prepared) -> Prepared:
    """The settings' defaults, where the config does not ask for fine-tuning in every run."""
    from heft.text.finetune_settings import FinetuneSettings

    config = ready.config
    if config.text.finetune is not None:
        return ready
    text = config.text.model_copy(update={"finetune": FinetuneSettings(seed=config.seed)})
    return replace(ready, config=config.model_copy(update={"text": text}))


class _Lines(logging.Handler):
    """Prints what the node says of its progress."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        self._console.print(f"    {record.getMessage()}", markup=False, soft_wrap=True)


def _hand_over(ready: Prepared, artifact: Path, street: Street) -> Path:
    """A copy of the encoder in the run's folder, and the overlay that names it."""
    from heft.text.finetune_run import ENCODER_FOLDER
    from heft.text.lora import FACTS_FILE

    folder = ready.run_dir / ENCODER_FOLDER
    # Whole or not at all: an overlay may name the folder already.
    draft = folder.with_name(f".draft-{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(artifact / ENCODER_FOLDER, draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
    curve = {int(step): value for step, value in facts["ndcg_at_10_held_out"].items()}
    overlay = ready.run_dir / OVERLAY
    settings = {"text": {"encoder": str(folder), "finetune": None}}
    write_whole(overlay, yaml.safe_dump(settings))
    say = street.console.print
    if facts["steps"]:
        say(
            f"NDCG@10 of held-out queries by clicks: {curve[0]:.4f} before, "
            f"{curve[facts['steps']]:.4f} after step {facts['steps']}, which was kept.",
            soft_wrap=True,
        )
    else:
        say("No step was better on held-out queries than the parent, whose weights were kept.")
    say(f"encoder {folder}", soft_wrap=True, markup=False)
    say(f"overlay {overlay}", soft_wrap=True, markup=False)
    say(f"use it  heft run {street.config_path} --with {overlay}", soft_wrap=True, markup=False)
    return overlay
