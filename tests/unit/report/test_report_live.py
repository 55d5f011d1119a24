"""The live page: what it says of a run, and whom it answers."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from triaxis.cli.progress_of import progress_of
from triaxis.config import config_from_plain
from triaxis.errors import ConfigError, StoreError
from triaxis.progress import Step
from triaxis.report.live import LivePage, LiveServer, frontier_so_far, so_far_plot
from triaxis.report.records import read_records
from triaxis.stages.fit import fit_run
from triaxis.stages.listeners import ProgressFile
from triaxis.stages.solve import frontier_run
from triaxis.store.directory import RunDirectory
from triaxis.testing import FakeTrainer, chain_specs

SPECS = chain_specs((0.9, 0.75, 0.6, 0.45, 0.25))


def collected(place: Path, num: int, table: str = "cost_table") -> RunDirectory:
    """A run after its first `num` trials."""
    trainer, run = FakeTrainer(), RunDirectory(place)
    with run.open(config_from_plain({})) as store:
        store.put_record("base", {"macs": trainer.macs, "val_accuracy": 0.9, "train_macs": 1e12})
        store.put_record(table, trainer.cost_table().to_json())
        for spec in SPECS[:num]:
            store.put_trial(trainer(spec))
    return run


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return collected(tmp_path / "run", 4, "first_cost_table")


@pytest.fixture
def server(run: RunDirectory) -> Iterator[LiveServer]:
    with LiveServer(LivePage(run.path, progress_of)) as found:
        thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server: LiveServer, path: str, host: str | None = None, method: str = "GET") -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers={"Host": host} if host is not None else {})
    answer = connection.getresponse()
    found = answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read().decode()
    connection.close()
    return found


def test_the_page_is_there_on_this_machine_and_asks_for_nothing_elsewhere(server: LiveServer) -> None:
    status, headers, text = ask(server, "/")
    assert status == 200 and headers["content-type"] == "text/html; charset=utf-8" and headers["cache-control"] == "no-store"
    assert server.server_address[0] == "127.0.0.1"
    assert "http://" not in text.replace("http://www.w3.org", "") and "connect-src &#39;self&#39;" in text
    assert "<h1>Not running</h1>" in text and "4 done, 0 failed" in text and text.count('<svg class="chart"') == 1


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1", "127.0.0.1:1", "localhost.example.com", ""])
@pytest.mark.parametrize("path", ["/", "/state.json", "/report.html"])
def test_a_request_under_another_name_is_refused(server: LiveServer, path: str, host: str) -> None:
    status, _, text = ask(server, path, host=host)
    assert status == 403 and "4 done" not in text


def test_this_machines_own_names_are_answered(server: LiveServer) -> None:
    for name in ("127.0.0.1", "localhost"):
        assert ask(server, "/state.json", host=f"{name}:{server.server_port}")[0] == 200


@pytest.mark.parametrize("path", ["/config.yaml", "/../run/config.yaml", "/%2e%2e/store.sqlite", "/report.html", "/checkpoints/"])
def test_no_file_of_the_run_but_the_report_is_given_out(server: LiveServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(server: LiveServer, run: RunDirectory, method: str) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir() if not path.name.startswith("store")}
    assert ask(server, "/", method=method)[0] == 501
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir() if not path.name.startswith("store")} == before


def test_head_has_no_body_and_the_report_is_given_when_it_is_there(server: LiveServer, run: RunDirectory) -> None:
    run.report_file.write_text("<p>done</p>")
    assert ask(server, "/report.html")[2] == "<p>done</p>"
    status, headers, text = ask(server, "/report.html", method="HEAD")
    assert (status, headers["content-length"], text) == (200, "11", "")
    assert "See the report" in ask(server, "/state.json")[2]


def test_the_state_follows_the_run(server: LiveServer, run: RunDirectory) -> None:
    before = json.loads(ask(server, "/state.json")[2])
    assert before["is_running"] is False and "no trial" not in before["parts"]["trials"]
    with run.open() as store:
        ProgressFile(run.progress_file).hear(Step(stage="collect", share=0.25, trial=5, num_trials=16, epoch=2, num_epochs=4, loss=0.5))
        store.put_trial(FakeTrainer()(SPECS[4]))
        after = json.loads(ask(server, "/state.json")[2])
    assert after["is_running"] and after["title"] == "running: run"
    assert "trial 5 of 16, epoch 2 of 4, loss 0.5" in after["parts"]["now"]
    assert after["parts"]["trials"].count("<tr>") == before["parts"]["trials"].count("<tr>") + 1
    assert after["parts"]["so-far"].count('class="mark"') == before["parts"]["so-far"].count('class="mark"') + 1


def test_a_run_that_is_gone_is_one_sentence(server: LiveServer, run: RunDirectory) -> None:
    run.config_file.unlink()
    status, _, text = ask(server, "/state.json")
    assert status == 503 and "must be a run directory" in text and "Traceback" not in text


def test_a_port_that_is_taken_is_one_sentence(server: LiveServer, run: RunDirectory) -> None:
    with pytest.raises(ConfigError, match=r"--port must be a free port, got \d+"):
        LiveServer(LivePage(run.path, progress_of), server.server_port)


def test_the_frontier_so_far_is_the_one_that_the_commands_would_give(tmp_path: Path) -> None:
    run = collected(tmp_path / "run", 16)
    with run.open() as store:
        found = frontier_so_far(read_records(store))
        fit_run(store, run.config())
        wanted = frontier_run(store, "macs", 200)
    assert found
    steps = dict.fromkeys((solution.costs["macs"], solution.predicted_accuracy) for solution in wanted)
    assert [(point.cost, point.accuracy) for point in found.curve] == list(steps)


def test_the_drawing_needs_a_trial_and_the_frontier_more(tmp_path: Path) -> None:
    def drawn(num: int) -> Any:
        with collected(tmp_path / str(num), num).read() as store:
            return so_far_plot(read_records(store))

    assert drawn(0) is None
    first = drawn(1)
    assert len(first.marks) == 1 and first.lines == ()
    assert len(drawn(16).lines) == 1


def test_a_page_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="must be a run directory"):
        LivePage(tmp_path, progress_of).page()
