"""What a run found, as one page and one picture: records -> plain numbers -> words and figures -> a file.

Read in this order: `records` (what the store holds), `figures` (the numbers of each figure), `words` (numbers as text),
`plots` (numbers as plotly figures, the only file that imports plotly), `html` (the page), `picture` (the static SVG).
"""

from __future__ import annotations

from triaxis.report.html import write_report
from triaxis.report.picture import write_picture
from triaxis.report.records import Records, read_records

__all__ = ["Records", "read_records", "write_picture", "write_report"]
