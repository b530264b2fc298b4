"""How texts become vectors."""

from typing import Annotated, Literal

from pydantic import Field

from heft.settings import Settings
from heft.text.finetune_settings import FinetuneSettings

__all__ = ["BUNDLED", "Precision", "TextSettings"]

Precision = Literal["float32", "bfloat16", "int8"]

Dimensions = (
    Annotated[int, Field(strict=True, ge=0)] | Annotated[float, Field(strict=True, gt=0, lt=1)]
)

BUNDLED = "minilm"  # the all-MiniLM-L6-v2 checkpoint that is installed with Heft


class TextSettings(Settings):
    """The encoder, and how its vectors are reduced for the model.

    Attributes:
        encoder: `minilm`, a folder with a Hugging Face BERT checkpoint, or a
            hub name such as `sentence-transformers/all-MiniLM-L12-v2`.
        max_tokens: longer texts are cut there; counts `[CLS]` and `[SEP]`.
        precision: of the table's vectors. `float32`; `bfloat16`, for accelerators; `int8`,
            for processors, fast where they multiply such numbers (AVX-512 VNNI). The
            served graph computes in float32 all the same.
        batch_size: most texts encoded at once.
        batch_tokens: most tokens encoded at once, padding included; on a CPU some
            1,000 are fastest, on an accelerator many more.
        title_dimensions: principal components kept of the title vectors: a number of them,
            or, below 1, the share of the variance that they explain at least.
        query_dimensions: the same of the query vectors.
        product_dimensions: the same of the element-wise product of query and title.
        pairs_sample: at most that many query and title pairs enter the product's PCA.
        whiten: scale each component to unit variance over the traffic.
        finetune: fine-tune the encoder on the log's clicks first, in every run.
    """

    encoder: str = Field(default=BUNDLED, min_length=1)
    max_tokens: int = Field(default=64, ge=3)
    precision: Precision = "float32"
    batch_size: int = Field(default=256, ge=1)
    batch_tokens: int = Field(default=1024, ge=1)
    title_dimensions: Dimensions = 12
    query_dimensions: Dimensions = 0
    product_dimensions: Dimensions = 16
    pairs_sample: int = Field(default=200_000, ge=1)
    whiten: bool = True
    finetune: FinetuneSettings | None = None
