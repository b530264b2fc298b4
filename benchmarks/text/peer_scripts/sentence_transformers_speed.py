"""sentence-transformers, asked for one chunk of texts after another.

    python sentence_transformers_speed.py FOLDER TEXTS.json VECTORS.npy MAX_TOKENS

Each line of standard input is "FIRST END"; the answer is the seconds that these texts took,
by the clock and of the processor. At the
end of input the vectors of all texts are written.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
model.max_seq_length = int(sys.argv[4])
texts = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
model.encode(texts[:256], show_progress_bar=False)
vectors = np.zeros((len(texts), model.get_sentence_embedding_dimension()), np.float32)
print("ready", flush=True)
for line in sys.stdin:
    first, end = map(int, line.split())
    began, worked = time.perf_counter(), time.process_time()
    # Its own batch size, 32, texts sorted by length; larger ones are slower on a processor.
    vectors[first:end] = model.encode(
        texts[first:end], normalize_embeddings=True, show_progress_bar=False
    )
    print(time.perf_counter() - began, time.process_time() - worked, flush=True)
np.save(sys.argv[3], vectors)
