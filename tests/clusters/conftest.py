"""What Ray reads when it is imported, and Spark when it starts: before the tests are."""

import os
import secrets
import sys
from tempfile import TemporaryDirectory

# Ray leaves nothing behind, neither files nor a token in the home directory.
_FOLDER = TemporaryDirectory(prefix="ray")
os.environ["RAY_TMPDIR"] = _FOLDER.name
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
# Spark's workers run this very Python.
os.environ["PYSPARK_PYTHON"] = sys.executable
