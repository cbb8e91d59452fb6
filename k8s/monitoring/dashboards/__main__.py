"""`python k8s/monitoring/dashboards [FOLDER]` writes the dashboards as JSON, by default beside this file, where kustomize looks."""

import json
import sys
from pathlib import Path

from extraction import extraction
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from nodes import nodes
from run import run
from training import training

DASHBOARDS = {"run": run, "extraction": extraction, "training": training, "nodes": nodes}


def write(folder: Path) -> None:
    """One file for each dashboard."""
    for name, make in DASHBOARDS.items():
        text = json.dumps(make().build(), cls=JSONEncoder, sort_keys=True, indent=1)
        (folder / f"{name}.json").write_text(text + "\n", "utf-8")


write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
