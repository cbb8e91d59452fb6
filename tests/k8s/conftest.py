"""Fixtures for the manifests. What these tests share lies beside them, where importlib mode does not look."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
