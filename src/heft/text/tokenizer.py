"""WordPiece tokenisation inside a TensorFlow graph, equal to Hugging Face's id for id.

Only one op comes from TensorFlow Text, `FastWordpieceTokenizeWithOffsets`; the rest
is core TensorFlow, so that the stock tensorflow/serving image runs the graph.
"""

import re

import tensorflow as tf
import tensorflow_text as tf_text

from heft.errors import EncoderError
from heft.text.characters import PLACEHOLDERS, SELF, character_table
from heft.text.checkpoint import Checkpoint

__all__ = ["GraphTokenizer"]

_LONGEST_WORD = 100  # characters; a longer word is unknown, as in the original BERT
_UTF8_BYTES = 4  # at most, of a character


class GraphTokenizer:
    """Maps strings to token ids, `[CLS]` first and `[SEP]` last.

    Works eagerly and inside `tf.function`; holds constants only, no resources.

    Args:
        checkpoint: whose vocabulary and flags to follow.
        max_tokens: longer texts are cut; counts the two special tokens.

    Attributes:
        start_id, end_id: of `[CLS]` and `[SEP]`.

    Raises:
        EncoderError: `max_tokens` is more than the checkpoint has positions.
    """

    def __init__(self, checkpoint: Checkpoint, max_tokens: int) -> None:
        if max_tokens > checkpoint.max_positions:
            raise EncoderError(
                f"max_tokens={max_tokens} is above the {checkpoint.max_positions} positions of "
                f"{checkpoint.folder}; lower max_tokens or choose another encoder"
            )
        vocabulary = checkpoint.vocabulary()
        self.max_tokens = max_tokens
        self._special = checkpoint.special
        self._unknown, separator, _, start, _ = checkpoint.special
        self.start_id = vocabulary.index(start)
        self.end_id = vocabulary.index(separator)
        table = character_table(
            checkpoint.lowercase, checkpoint.strip_accents, checkpoint.split_cjk, checkpoint.special
        )
        self._pages = tf.constant(table.pages)
        self._codes = tf.constant(table.codes)
        self._replacements = tf.RaggedTensor.from_row_lengths(table.values, table.row_lengths)
        self._word_pieces = tf_text.FastWordpieceTokenizer(
            vocabulary,
            max_bytes_per_word=_LONGEST_WORD * _UTF8_BYTES,
            token_out_type=tf.int32,
            unknown_token=self._unknown,
            no_pretokenization=True,
        )

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Token ids of `texts`, a (n,) string tensor, as an int32 ragged tensor (n, tokens).

        Bytes that are not UTF-8 are passed over, as U+FFFD is.
        """
        words = tf.strings.split(self._normalise(texts))
        flat = words.flat_values
        too_long = tf.strings.length(flat, "UTF8_CHAR") > _LONGEST_WORD
        words = words.with_flat_values(tf.where(too_long, self._unknown, flat))
        pieces = self._word_pieces.tokenize(words).merge_dims(1, 2)[:, : self.max_tokens - 2]
        ends = tf.ones_like(texts, tf.int32)[:, tf.newaxis]
        return tf.concat([ends * self.start_id, pieces, ends * self.end_id], axis=1)

    def _normalise(self, texts: tf.Tensor) -> tf.Tensor:
        """Clean, lower-cased text with words and punctuation separated by spaces."""
        characters = tf.strings.unicode_decode(
            self._mark_special(texts), "UTF-8", replace_control_characters=False
        )
        points = characters.flat_values
        page = tf.gather(self._pages, points // 256)
        replaced = tf.gather(self._replacements, tf.gather(self._codes, page * 256 + points % 256))
        own = tf.gather(points, replaced.value_rowids())
        replaced = replaced.with_values(tf.where(replaced.values == SELF, own, replaced.values))
        return tf.strings.unicode_encode(
            characters.with_flat_values(replaced).merge_dims(1, 2), "UTF-8"
        )

    def _mark_special(self, texts: tf.Tensor) -> tf.Tensor:
        """Puts placeholders for special tokens spelt out in the text, which Hugging Face finds."""
        dropped = chr(PLACEHOLDERS[-1])
        used = f"[{chr(PLACEHOLDERS[0])}-{dropped}]"
        texts = tf.strings.regex_replace(texts, used, dropped)
        for placeholder, token in zip(PLACEHOLDERS, self._special, strict=False):
            texts = tf.strings.regex_replace(texts, re.escape(token), chr(placeholder))
        return texts
