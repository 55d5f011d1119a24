"""What a run found, as one page and one picture: records -> plain numbers -> words and figures -> a file.

Read in this order: `records` (what the store holds), `figures`, `steps` and `network` (the numbers of each part of the page),
`words` (numbers as text), `draw` and `plots` (numbers as charts), `html` (the page), `picture` (the static SVG), `compare`
(several runs on one page), `live` (the page of a run that is going on).
"""

from __future__ import annotations

from pathlib import Path

from triaxis.report.html import write_report
from triaxis.report.picture import write_picture
from triaxis.report.records import Records, read_records
from triaxis.store.directory import RunDirectory

__all__ = ["Records", "read_records", "report_run", "write_picture", "write_report"]


def report_run(path: str | Path) -> Path:
    """Write ``report.html`` into a run directory, finished or not, and return its path.

    Raises:
        StoreError: The directory holds no run, or cannot be written.
    """
    run = RunDirectory(path)
    with run.read() as store:
        return write_report(read_records(store), run.report_file)
