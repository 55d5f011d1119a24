"""The page of a run that is going on, served to this machine alone: read-only, and drawn anew from the run's directory.

The page asks for `state.json` every two seconds and puts its parts in place. Nothing is written, and nothing but the page, its
state and the finished report is given out.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from triaxis.errors import ConfigError, FitError, TriaxisError
from triaxis.maths.fit import fit
from triaxis.progress import Step, roughly
from triaxis.report import words
from triaxis.report.compare import frontier_in
from triaxis.report.draw import Band, Chart, Line, Mark, Scale, reach, shape_of
from triaxis.report.figures import Frontier, val_interval
from triaxis.report.html import trial_row
from triaxis.report.records import Records, read_records
from triaxis.report.templates import templates
from triaxis.store.directory import RunDirectory
from triaxis.values import CostTable, DoneTrial, Point, done_trials
from triaxis.values.score import said, score_of

HOST = "127.0.0.1"
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'"

State = Callable[[Path], dict[str, Any]]
"""Returns how far the run in a directory is, as `triaxis status --json` prints it."""


class LivePage:
    """What the page of one run shows at the moment; `state` says how far the run is."""

    def __init__(self, path: str | Path, state: State) -> None:
        self.run, self._state = RunDirectory(path), state
        self._drawn: tuple[object, str] = (None, "")
        self._lock = threading.Lock()

    def page(self) -> str:
        """Return the whole page's text.

        Raises:
            StoreError: The directory holds no run, or cannot be read.
        """
        state = self.state()
        parts = {name: Markup(part) for name, part in state.pop("parts").items()}
        page = templates().get_template("live.html")
        text = page.render(name=self._name, version=version("triaxis"), policy=POLICY, parts=parts, **state)
        return said(text, score_of(self.run.config().task))

    def state(self) -> dict[str, Any]:
        """Return the page's title and its parts as markup, by their ids, and whether a process works on the run.

        Raises:
            StoreError: The directory holds no run, or cannot be read.
        """
        state = self._state(self.run.path)
        with self.run.read() as store:
            records, early = read_records(store), store.record("first_cost_table")
        if records.cost_table is None and early:
            records = replace(records, cost_table=CostTable.from_json(early))
        word, sentence = standing(state)
        page = templates()
        trials = [trial_row(trial) for trial in reversed(records.trials)]
        parts = {
            "now": page.get_template("live_now.html").render(state=state, word=word, said=sentence, step=_step(state), words=words),
            "trials": page.get_template("live_trials.html").render(trials=trials),
            "so-far": self._chart(records),
        }
        parts = {name: said(part, records.score) for name, part in parts.items()}
        return {"title": f"{word}: {self._name}", "is_running": state["running"] is not None, "parts": parts}

    @property
    def _name(self) -> str:
        return self.run.path.resolve().name

    def _chart(self, records: Records) -> str:
        """Return the drawing; it is made anew only if something was added to the run."""
        seen = (len(records.trials), records.cost_table is None, records.predictor, records.solution, records.verification)
        with self._lock:
            if self._drawn[0] != seen:
                chart = so_far_plot(records)
                self._drawn = (seen, templates().get_template("live_chart.html").render(chart=chart) if chart else "")
            return self._drawn[1]


def standing(state: dict[str, Any]) -> tuple[str, str]:
    """Return in a word and in a sentence whether a run is going on, stopped or finished."""
    progress = state["progress"]
    if state["running"]:
        return "running", f"A process works on the stage {progress['stage']}."
    if state["next"] is None:
        return "finished", "Every stage is done."
    if progress:
        ago = roughly(max(0.0, time.time() - progress["time"]))
        return "stopped", f"The process was last heard of {ago} ago and is gone. Run the same command again to go on."
    return "not running", f"No process works on this run. The next stage is {state['next']}."


def _step(state: dict[str, Any]) -> Step | None:
    return Step.from_json(state["progress"]) if state["progress"] and state["running"] else None


def frontier_so_far(records: Records) -> Frontier | None:
    """Return the frontier in MACs by the trials that there are; None while they do not determine a predictor."""
    if records.predictor is None:
        points = [Point(ratios=t.achieved, accuracy=t.val_accuracy) for t in done_trials(records.trials)]
        settings = {key: item for key, item in records.config.get("fit", {}).items() if key in ("kind", "degree", "rank")}
        try:
            predictor, _ = fit(points, **settings)
        except FitError:
            return None
        records = replace(records, predictor=predictor)
    return frontier_in(records, "macs")


def so_far_plot(records: Records) -> Chart | None:
    """Draw the trials as they are measured, and the frontier that they give so far; None before the first trial."""
    done = done_trials(records.trials)
    base_macs = records.base.get("macs") or max((trial.macs for trial in done), default=0)
    if not done or not base_macs:
        return None
    marks = tuple(_trial_mark(trial, base_macs, records) for trial in done)
    found = frontier_so_far(records)
    bands: tuple[Band, ...] = ()
    lines: tuple[Line, ...] = ()
    if found:
        x = [100 * point.fraction for point in found.drawn]
        low, high = ([100 * end for end in ends] for ends in zip(*((p.low, p.high) for p in found.drawn), strict=True))
        bands = (Band(x=x, low=low, high=high),)
        y = [100 * point.accuracy for point in found.drawn]
        lines = (Line(x=x, y=y, ink="chosen", width=3, name="frontier so far (predicted)"),)
    low_end, high_end = reach([mark.y for mark in marks], margin=0.12)
    return Chart(
        name="progress-chart",
        label=f"Val accuracy against MACs of {len(done)} trials" + (", and the frontier so far." if found else "."),
        x=Scale(title="MACs, % of the base model's", low=0, high=103, suffix=" %"),
        y=Scale(title="val accuracy", low=low_end, high=high_end, suffix=" %"),
        height=320,
        bands=bands,
        lines=lines,
        marks=marks,
    )


def _trial_mark(trial: DoneTrial, base_macs: float, records: Records) -> Mark:
    accuracy, axis = trial.val_accuracy, trial.spec.axis
    ends = val_interval(records, accuracy)
    return Mark(
        x=100 * trial.macs / base_macs,
        y=100 * accuracy,
        ink=axis,
        shape=shape_of(axis),
        says=f"{axis} trial {trial.achieved}: {words.percent(accuracy, 2)} measured",
        name="base model" if axis == "base" else f"{axis} trials",
        interval=(100 * ends[0], 100 * ends[1]) if ends else None,
        size=0.85,
    )


class LiveServer(ThreadingHTTPServer):
    """Gives a live page to programs on this machine, and to no other."""

    daemon_threads = True

    def __init__(self, page: LivePage, port: int = 0) -> None:
        """Take a port of 127.0.0.1; 0 takes any that is free.

        Raises:
            ConfigError: The port is taken, or not allowed.
        """
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            reason = f"--port must be a free port, got {port} ('{error.strerror}')"
            raise ConfigError(f"{reason}: leave it out, and a free one is taken.") from None
        self.page = page

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{HOST}:{self.server_port}/"

    def knows(self, host: str) -> bool:
        """Whether a request's Host header names this server. Another name comes from a page that wants to read through the browser."""
        names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        return host in names or (self.server_port == 80 and host in (HOST, "localhost"))


class _Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD; other methods are refused by the base class."""

    server: LiveServer
    server_version, sys_version = "triaxis", ""
    timeout = 10

    def do_GET(self) -> None:
        """Give out the page, its state or the report."""
        self._answer()

    def do_HEAD(self) -> None:
        """Give out what GET would, without the body."""
        self._answer()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the terminal is for the person who opened the page."""

    def _answer(self) -> None:
        if not self.server.knows(self.headers.get("Host", "")):
            self._send(HTTPStatus.FORBIDDEN, "text/plain", "This page is for programs on this machine only.\n")
            return
        try:
            self._send(HTTPStatus.OK, *self._content(self.path.partition("?")[0]))
        except KeyError:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", "There is no such page.\n")
        except (TriaxisError, OSError) as error:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", f"{error}\n")

    def _content(self, path: str) -> tuple[str, str]:
        """Return the kind and text of what a path names; KeyError if it names nothing."""
        page = self.server.page
        if path == "/":
            return "text/html", page.page()
        if path == "/state.json":
            return "application/json", json.dumps(page.state())
        if path == "/report.html" and page.run.report_file.is_file():
            return "text/html", page.run.report_file.read_text(encoding="utf-8")
        raise KeyError(path)

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
