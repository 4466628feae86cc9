"""The JSON file of ``--report-perfdash``: three percentiles in the form Kubernetes' perf-dash reads."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Final

from petcd.cli.benchmark.report import Report, percentile

_SHOWN: Final = (("Perc50", 50.0), ("Perc90", 90.0), ("Perc99", 99.0))


def document(report: Report) -> str:
    """The file's text; a percentile that is not known is 0. Times in milliseconds."""
    ordered = report.ordered()
    data = {name: round((percentile(ordered, percent) or 0.0) * 1000, 4) for name, percent in _SHOWN}
    item = {"data": data, "labels": {"Operation": report.operation.upper()}, "unit": "ms"}
    return json.dumps({"version": "v1", "dataItems": [item]}, indent=2)


def write(report: Report, now: float) -> Path:
    """Into ``$ARTIFACTS``, or ``_artifacts`` here; the path. Raises OSError."""
    directory = Path(os.environ.get("ARTIFACTS") or "./_artifacts")
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    path = directory / f"EtcdAPI_benchmark_{report.operation}_{moment}.json"
    path.write_text(document(report))
    return path
