"""`heft tune`: a search for model settings on the weighted examples of a config's run."""

import shutil
import tempfile
from pathlib import Path

from heft import features as f
from heft.errors import ConfigError
from pipeline.digest import source_digest
from pipeline.street import Prepared, Street, prepare

__all__ = ["OVERLAY", "run_tune"]

OVERLAY = "tuned.yaml"


def run_tune(street: Street) -> Path:
    """Searches and returns the overlay with the best settings.

    The nodes up to ImportanceEstimator run first, from the cache where they can.
    A search that was killed goes on where it was when it is repeated.

    Raises:
        InputError: config, logs or space cannot be used.
        GateError: a gate stopped the nodes.
        TrainingError: no clicks to learn from, or no trial had a loss.
        LockedError: another command is at work in the run's folder.
    """
    _check(street)
    with street.alone("heft tune"):
        return _run(street)


def _run(street: Street) -> Path:
    ready = prepare(street)
    # TFX, which takes its time to import.
    from pipeline.pipeline import create_weighing_pipeline
    from pipeline.running import run_nodes

    pipeline = create_weighing_pipeline(ready.config, ready.places(), ready.fingerprint)
    outputs = run_nodes(pipeline, ready, street).outputs
    return _search(ready, outputs, street)


def _check(street: Street) -> None:
    """What the config alone tells, before the nodes run."""
    from heft.tuning.space import Space

    config = street.load()
    model = config.model
    for key, value, why in (
        ("warm_start", model.warm_start, "a trial begins anew; set it to false"),
        ("strategy", model.strategy == "multi_worker", "a search is one process; set another"),
        ("privacy", model.privacy is not None, "every trial would spend as much; set it to null"),
        ("student", model.student is not None, "a search is for the model itself; set it to null"),
    ):
        if value:
            raise ConfigError(f"model.{key}={getattr(model, key)}: {why}")
    Space.of(model, config.tune.space, rows=1_000_000)


def _search(ready: Prepared, outputs: dict[str, dict[str, str]], street: Street) -> Path:
    from heft.model.materials import Materials, TrainingRun, base_weights, pack_rows
    from heft.tuning.outcome import write_overlay
    from heft.tuning.search import Journal, search
    from heft.tuning.space import Space
    from heft.tuning.trials import TrialTrainer
    from pipeline.tuning_progress import SearchProgress, print_outcome

    config, folder = ready.config, ready.run_dir / "tune"
    weighted = outputs["ImportanceEstimator"]["weighted_examples"]
    run = TrainingRun(
        train_files=[f"{weighted}/Split-{f.TRAIN}/*"],
        tune_files=[f"{weighted}/Split-{f.TUNE}/*"],
        transform_uri=outputs["Transform"]["transform_graph"],
        embeddings_uri=outputs["TextEmbedder"]["embeddings"],
        importance_uri=outputs["ImportanceEstimator"]["importance"],
        model_dir="", control_dir="", log_dir="",
        ranking_uri=outputs["FeatureRanker"]["ranking"] if config.model.selection else None,
    )  # fmt: skip
    made = Materials.of(run, config.transform, config.model.history, config.model.selection)
    with tempfile.TemporaryDirectory(prefix="heft-rows-") as packed:
        rows = pack_rows(run, made.sizes, packed)
        space = Space.of(config.model, config.tune.space, rows.train.rows)
        facts = {
            **space.facts(), "seed": config.tune.seed, "oracle": config.tune.oracle,
            "artifacts": [weighted, run.transform_uri, run.embeddings_uri, run.importance_uri],
            "source": source_digest("heft.tuning.search", "heft.tuning.trials"),
        }  # fmt: skip
        journal = Journal(folder / "trials.jsonl", facts)
        state = folder / journal.digest
        with SearchProgress(
            street.console, config.tune, len(journal.trials), rows.train.rows
        ) as progress:
            trainer = TrialTrainer(
                rows, made.table, made.sizes.with_rates(rows.train),
                made.lines(config.model).tolist(), state,
                base_weights(run, config.model, "weighted", made.lineage), progress.beat,
            )  # fmt: skip
            trials = search(space, config.tune, trainer, journal, progress.done)
    # What a killed trial of another search left is beside it.
    for left in (path for path in folder.iterdir() if path.is_dir()):
        shutil.rmtree(left)
    overlay = ready.run_dir / OVERLAY
    write_overlay(trials, overlay)
    print_outcome(street.console, trials, street.config_path, overlay)
    return overlay
