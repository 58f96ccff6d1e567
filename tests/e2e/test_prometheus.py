"""A Prometheus that scrapes a server under load, where it is installed (Debian's package `prometheus`)."""

from __future__ import annotations

import json
import math
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from headrace.client import blocking
from tests.e2e.dashboard import DEPLOY, panels
from tests.e2e.scraping import get, url_of
from tests.e2e.scripted_load import OPTIONS, ScriptedLoad
from tests.e2e.serving import Serve

pytestmark = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="prometheus is not installed"
)

Ask = Callable[[str], list[float]]
CONFIGURATION = """
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{alerts}]
scrape_configs: [{{job_name: headrace, static_configs: [{{targets: ["{target}"]}}]}}]
"""


def promtool(*arguments: str | Path, given: str | None = None) -> str:
    """What it says. It is content."""
    ended = subprocess.run(
        ["promtool", *arguments], input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[str], Ask]]:
    """`ask = prometheus("127.0.0.1:9464")`: one that scrapes there every second, and answers queries with values."""
    started: list[subprocess.Popen[bytes]] = []

    def start(target: str) -> Ask:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        file = tmp_path / "prometheus.yml"
        file.write_text(CONFIGURATION.format(target=target, alerts=DEPLOY / "prometheus/alerts.yml"))
        options = [f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'data'}"]
        listen = f"--web.listen-address=127.0.0.1:{port}"
        with (tmp_path / "prometheus.log").open("wb") as log:
            started.append(subprocess.Popen(["prometheus", *options, listen], stdout=log, stderr=log))

        def ask(query: str) -> list[float]:
            try:
                with urlopen(
                    f"http://127.0.0.1:{port}/api/v1/query?{urlencode({'query': query})}", timeout=60
                ) as answer:
                    found = json.load(answer)["data"]["result"]
            except URLError as error:
                if isinstance(error.reason, ConnectionRefusedError):
                    return []  # it does not listen yet
                raise
            return [float(each["value"][1]) for each in found]

        return ask

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_every_panel_shows_something(serve: Serve, tmp_path: Path, prometheus: Callable[[str], Ask]) -> None:
    """Under a load that does everything, each query of the dashboard has values, of which one is a number."""
    served = serve(*ScriptedLoad.models(tmp_path), *OPTIONS, "--metrics-port=0", "--model-control")
    url = url_of(served)
    ask = prometheus(url.removeprefix("http://"))
    missing = list(panels())
    deadline = time.monotonic() + 200
    with blocking.connect(served.address) as client:
        while missing:
            ScriptedLoad(served.address).run()
            client.load_model("am")
            missing = [(title, query) for title, query in missing if not any(map(math.isfinite, ask(query)))]
            assert time.monotonic() < deadline, missing
    assert ask('up{job="headrace"}') == [1]
    assert ask('ALERTS{alertname="HeadraceInternalErrors"}') == [1]  # pending


def test_promtool_is_content_with_what_is_told(serve: Serve, tmp_path: Path) -> None:
    served = serve(*ScriptedLoad.models(tmp_path), *OPTIONS, "--metrics-port=0")
    ScriptedLoad(served.address).run()
    assert promtool("check", "metrics", given=get(f"{url_of(served)}/metrics", "text/plain").text) == ""


def test_promtool_is_content_with_the_rules() -> None:
    folder = DEPLOY / "prometheus"
    assert "13 rules found" in promtool("check", "rules", folder / "alerts.yml")
    assert "is valid" in promtool("check", "config", folder / "prometheus.yml")
    assert "SUCCESS" in promtool("test", "rules", folder / "alerts_test.yml")
