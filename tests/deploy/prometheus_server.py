"""Starts Debian's Prometheus for a test, on a free port, with a folder of its own that goes with it."""

import datetime
import json
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml


class PortTaken(Exception):
    pass


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def with_short_intervals(config_path, folder, target):
    """A copy of the configuration and its rules that scrapes `target` and evaluates every second: a test cannot wait."""
    config = yaml.safe_load(config_path.read_text(encoding="utf-8"))
    config["global"].update(scrape_interval="1s", evaluation_interval="1s")
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [target]}]
    (pattern,) = config["rule_files"]
    for path in sorted(config_path.parent.glob(pattern)):
        rules = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in rules["groups"]:
            group.pop("interval", None)
        copy = folder / pattern.replace("*", path.stem)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(yaml.safe_dump(rules, sort_keys=False), encoding="utf-8")
    path = folder / config_path.name
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


class PrometheusServer:
    """Ready to be asked once constructed; stop() ends it.

    `history`: lines `name{labels} value seconds` of OpenMetrics, which it knows from the start.
    """

    def __init__(self, config_path, target, history=()):
        self._target = target
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice_prometheus_"))
        try:
            self._config = with_short_intervals(config_path, self._folder, target)
            if history:
                self._import(history)
            # It cannot choose a port itself, and somebody else may be faster.
            while True:
                try:
                    self._start(free_port())
                    break
                except PortTaken:
                    pass
        except BaseException:
            shutil.rmtree(self._folder)
            raise

    def _import(self, history):
        text = self._folder / "history.txt"
        text.write_text("\n".join([*history, "# EOF", ""]), encoding="utf-8")
        subprocess.run(
            ["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", text, self._folder / "data"],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def _start(self, port):
        self._url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={self._config}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = []
        ready = threading.Event()

        def read_log():
            for line in self._process.stderr:
                self.log.append(line)
                if "Server is ready to receive web requests" in line:
                    ready.set()
            ready.set()

        self._reader = threading.Thread(target=read_log)
        self._reader.start()
        ready.wait()
        if self._process.poll() is not None or not self._is_ready():
            self._end()
            log = "".join(self.log)
            raise PortTaken() if "address already in use" in log else RuntimeError("Prometheus ended:\n" + log)

    def _is_ready(self):
        try:
            with urllib.request.urlopen(self._url + "/-/ready") as response:
                return response.status == 200
        except urllib.error.URLError:
            return False

    def _end(self):
        self._process.terminate()
        exit_code = self._process.wait()
        self._reader.join()
        self._process.stderr.close()
        return exit_code

    def stop(self):
        exit_code = self._end()
        shutil.rmtree(self._folder)
        return exit_code

    def _get(self, path, parameters):
        """The data of an answer of its API. ValueError with its words if it refuses."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters, doseq=True)}"
        try:
            with urllib.request.urlopen(url) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error)["error"]) from error

    def query(self, expression, at=None):
        """The instant vector or scalar that an expression has at a time: [{"metric": ..., "value": [time, text]}]."""
        data = self._get("query", {"query": expression, **({} if at is None else {"time": at})})
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        return data["result"]

    def label_values(self, query):
        """What Grafana's label_values(selector, label) has."""
        selector, label = re.fullmatch(r"label_values\((.*), (\w+)\)", query).groups()
        return self._get(f"label/{label}/values", {"match[]": selector})

    def scrapes(self):
        """How often it has scraped the target, whether or not that answered."""
        answer = self.query(f'count_over_time(up{{instance="{self._target}"}}[1d])')
        return int(answer[0]["value"][1]) if answer else 0

    def rules_evaluated_since(self, seconds):
        """Whether all rules were, after this time."""
        groups = self._get("rules", {})["groups"]
        return all(datetime.datetime.fromisoformat(g["lastEvaluation"]).timestamp() > seconds for g in groups)

    def await_true(self, condition, within_scrapes=60):
        """Asks until it is so, which these further scrapes must show: there is nothing that one could wait for instead."""
        last = self.scrapes() + within_scrapes
        while not condition():
            if self._process.poll() is not None:
                raise RuntimeError("Prometheus ended:\n" + "".join(self.log))
            if self.scrapes() > last:
                raise AssertionError(f"after {within_scrapes} scrapes it is not so")
            time.sleep(0.05)
