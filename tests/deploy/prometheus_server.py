"""Starts Debian's Prometheus for a test, on a free port, with a folder of its own that goes with it."""

import datetime
import http.server
import json
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
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


class Beats:
    """A target without metrics. Who waits for it to be scraped waits as long as Prometheus needs, and not for a time."""

    def __init__(self):
        beats = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                beats.add()

            def log_message(self, *_):
                pass

        self._changed = threading.Condition()
        self._count = 0
        self._over = False
        self._server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.target = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def add(self):
        with self._changed:
            self._count += 1
            self._changed.notify_all()

    def set_over(self, over):
        """Whether there will be no more."""
        with self._changed:
            self._over = over
            self._changed.notify_all()

    def await_next(self):
        """False if there will be none."""
        with self._changed:
            last = self._count
            self._changed.wait_for(lambda: self._over or self._count > last)
            return not self._over

    def stop(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def with_short_intervals(config_path, folder, target, beats):
    """A copy of the configuration and its rules that scrapes `target` and evaluates every second: a test cannot wait.

    `beats` is scraped as well, as a job of its own.
    """
    config = yaml.safe_load(config_path.read_text(encoding="utf-8"))
    config["global"].update(scrape_interval="1s", evaluation_interval="1s")
    (job,) = config["scrape_configs"]
    del job["dns_sd_configs"]
    job["static_configs"] = [{"targets": [target]}]
    config["scrape_configs"].append({"job_name": "beats", "static_configs": [{"targets": [beats]}]})
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
        self._beats = Beats()
        try:
            self._config = with_short_intervals(config_path, self._folder, target, self._beats.target)
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
            self._beats.stop()
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
        self._beats.set_over(False)
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
            self._beats.set_over(True)

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
        self._beats.stop()
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
        """Asks after each scrape until it is so, which these further ones must show."""
        last = self.scrapes() + within_scrapes
        while not condition():
            if not self._beats.await_next():
                raise RuntimeError("Prometheus ended:\n" + "".join(self.log))
            if self.scrapes() > last:
                raise AssertionError(f"after {within_scrapes} scrapes it is not so")
