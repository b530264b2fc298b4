"""Settings of the model and its training."""

from typing import Literal, Self

from pydantic import Field, model_validator

from heft.model.options import (
    CompressionSettings,
    PrivacySettings,
    StudentSettings,
    TrackingSettings,
    Width,
)
from heft.selection.settings import SelectionSettings
from heft.settings import Settings

__all__ = ["ModelSettings"]


class ModelSettings(Settings):
    """The network and the training loop.

    Attributes:
        architecture: what the two tasks share: `esmm` nothing but the inputs,
            `shared_bottom` a body, `mmoe` experts, `ple` some of the experts.
        body: `mlp`, or `dcn_v2` with explicit crosses beside it.
        hidden: widths of each body.
        experts: of `mmoe`; of `ple`, for each task and shared ones.
        cross_layers: of `dcn_v2`.
        dropout: after each hidden layer, in [0, 1).
        categorical_width: embedding width of a categorical column; 0 leaves
            the columns out.
        numeric_pieces: that the cosine and each dense feature are cut into, so that the network
            can bend at each; 0 leaves them whole.
        vector_width: that each vector column is projected to.
        history: look at what the user clicked last, as far back as `logs.history` says.
        history_width: that the titles of those clicks are projected to.
        l2: penalty on the kernels of bodies and on categorical embeddings.
        position: `examination` multiplies attractiveness by the click model of
            the importance artifact; `additive` learns a bias of the click logit
            for each position instead, and wants pairs without debiasing.
        cvr_loss: `esmm` learns conversions through the product alone;
            `escm2_ips` and `escm2_dr` add a risk over clicked rows that is
            weighted by the inverse of the predicted click rate.
        cvr_weight: weight of the loss of the product beside the click loss.
        counterfactual_weight: weight of the risk that `escm2_*` adds.
        negative_rate: share of unclicked impressions that the log kept, where it is to
            be made up for in the logit; in (0, 1].
        epochs: most passes over the training split.
        patience: epochs without a better tune loss before training stops and
            the best epoch is restored.
        batch_size: most rows per step; small logs take smaller steps, so that an
            epoch has about a hundred.
        learning_rate, clip_norm: of Adam.
        selection: keep some features alone, by their place in FeatureRanker's ranking.
        weights: how the pairs are used; see `heft.model.weighting`.
        curriculum_epochs: over which `curriculum` goes from labels to pairs.
        meta_every: steps between two of the weight net, with `learned`.
        calibration: of the rates on the tune split, after training.
        reference_position: where `ctr` is predicted if no position is given.
        student: a smaller network that learns from the trained one and is served.
        compression: of what is exported.
        privacy: DP-SGD in place of ordinary steps.
        tracking: who is told of a training beside TensorBoard.
        warm_start: begin with the weights of the last blessed model, if there is one.
        base_model: begin with the weights of this model, of another run perhaps: a run's folder,
            for what it pushed last, or a SavedModel. With `warm_start` it is for the first run.
        warm_share: of the new in the weights that are kept when training went on from others, in
            (0, 1]; with 1 nothing but how it began is left of them.
        control: train the same model without weights beside it.
        precision: `mixed` computes in 16 bits and keeps weights in 32.
        jit: compile the training step with XLA.
        strategy: devices to train on; see `heft.model.strategy`.
        seed: of initialisation and order; the same for the control.
    """

    architecture: Literal["esmm", "shared_bottom", "mmoe", "ple"] = "esmm"
    body: Literal["mlp", "dcn_v2"] = "mlp"
    hidden: tuple[Width, ...] = (64, 32)
    experts: int = Field(4, ge=1)
    cross_layers: int = Field(2, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    categorical_width: int = Field(4, ge=0)
    numeric_pieces: int = Field(30, ge=0)
    vector_width: int = Field(16, ge=1)
    history: bool = False
    history_width: int = Field(16, ge=1)
    l2: float = Field(1e-2, ge=0, allow_inf_nan=False)
    position: Literal["examination", "additive"] = "examination"
    cvr_loss: Literal["esmm", "escm2_ips", "escm2_dr"] = "esmm"
    cvr_weight: float = Field(1.0, ge=0, allow_inf_nan=False)
    counterfactual_weight: float = Field(0.5, ge=0, allow_inf_nan=False)
    negative_rate: float = Field(1.0, gt=0, le=1)
    epochs: int = Field(5, ge=1)
    patience: int = Field(2, ge=1)
    batch_size: int = Field(1024, ge=1)
    learning_rate: float = Field(2e-3, gt=0, allow_inf_nan=False)
    clip_norm: float = Field(5.0, gt=0, allow_inf_nan=False)
    selection: SelectionSettings | None = None
    weights: Literal["loss", "sampling", "both", "curriculum", "formula_4_2", "learned"] = "loss"
    curriculum_epochs: float = Field(2.0, gt=0, allow_inf_nan=False)
    meta_every: int = Field(2, ge=1)
    calibration: Literal["none", "platt", "isotonic"] = "platt"
    reference_position: int = Field(1, ge=1)
    student: StudentSettings | None = None
    compression: CompressionSettings = CompressionSettings()
    privacy: PrivacySettings | None = None
    tracking: TrackingSettings = TrackingSettings()
    warm_start: bool = False
    base_model: str | None = None
    warm_share: float = Field(0.5, gt=0, le=1)
    control: bool = True
    precision: Literal["float32", "mixed"] = "float32"
    jit: bool = False
    strategy: Literal["default", "one_device", "mirrored", "multi_worker", "tpu"] = "default"
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _experts_have_bodies(self) -> Self:
        if self.architecture != "esmm" and not self.hidden:
            raise ValueError(
                f"architecture={self.architecture} with hidden=[] shares nothing: expected at "
                "least one width, or architecture: esmm"
            )
        return self

    @model_validator(mode="after")
    def _learned_is_not_compiled(self) -> Self:
        if self.weights == "learned" and self.jit:
            raise ValueError(
                "weights=learned and jit=true do not go together: XLA cannot compile a step within "
                "a step; expected jit: false"
            )
        return self

    @model_validator(mode="after")
    def _selection_begins_anew(self) -> Self:
        if self.selection is not None and (self.warm_start or self.base_model is not None):
            raise ValueError(
                "selection with warm_start or base_model: tomorrow's ranking may choose other "
                "inputs than the weights are for; expected one of them alone"
            )
        return self

    @model_validator(mode="after")
    def _privacy_stands(self) -> Self:
        """What would make epsilon untrue, or cannot be done, beside `privacy`."""
        if self.privacy is None:
            return self
        for asked, said, instead in (
            (self.weights in ("sampling", "both"), f"weights={self.weights}", "weights: loss"),
            (self.weights == "learned", "weights=learned", "weights: loss"),
            (self.student is not None, "student", "no student: it would learn without noise"),
            (self.precision != "float32", f"precision={self.precision}", "precision: float32"),
            (self.jit, "jit=true", "jit: false"),
            (
                self.strategy not in ("default", "one_device"),
                f"strategy={self.strategy}",
                "strategy: one_device",
            ),
        ):
            if asked:
                raise ValueError(f"privacy and {said} do not go together: expected {instead}")
        return self
