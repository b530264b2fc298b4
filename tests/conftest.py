"""What every test has in its environment."""

import os

# Logs with users are read under a key, as they are anywhere; tests of its absence take it away.
os.environ.setdefault("HEFT_PII_KEY", "a key of tests and of nobody else")
