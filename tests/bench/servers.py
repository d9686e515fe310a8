"""What the scripts of this folder share: programs that end with the script, sluice-server, and llama.cpp's server."""

import contextlib
import http.client
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time

START_SECONDS = 900  # the longest that loading a model may take


class Failed(Exception):
    """What the user has to know; ends the program."""


def log(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Process:
    """A program in a process group of its own, which ends with the `with` block. What it logs goes to a file."""

    def __init__(self, command, interactive=False):
        self.command = command
        self.log = tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace")
        pipe = subprocess.PIPE if interactive else None
        try:
            self.popen = subprocess.Popen(
                command,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or self.log,
                stderr=self.log,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            raise Failed(f"{command[0]}: {error.strerror}") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The second is for what a wrapper leaves behind, and for what does not listen to the first.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.popen.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(timeout=30)
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        self.log.close()

    def logged(self):
        # A second view of the file: the program writes at the position of the first.
        with open(f"/proc/self/fd/{self.log.fileno()}", encoding="utf-8", errors="replace") as view:
            return view.read()

    def fail(self, what):
        tail = "\n".join(self.logged().splitlines()[-15:])
        raise Failed(f"{shlex.join(self.command)}: {what}\n{tail}")

    def wait_for(self, pattern):
        """The first match of `pattern` in what the program logs."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            match = re.search(pattern, self.logged())
            if match:
                return match
            if self.popen.poll() is not None:
                self.fail(f"exit code {self.popen.returncode}")
            time.sleep(0.2)
        self.fail(f"did not log {pattern!r} in time")

    def ask(self, line):
        """Sends a line and returns the line that comes back."""
        try:
            self.popen.stdin.write(line + "\n")
            self.popen.stdin.flush()
        except OSError:
            self.fail("ended")
        answer = self.popen.stdout.readline()
        if not answer:
            self.popen.wait()
            self.fail(f"exit code {self.popen.returncode}")
        return answer


def output_of(command):
    with Process(command, interactive=True) as process:
        process.popen.stdin.close()
        text = process.popen.stdout.read()
        if process.popen.wait() != 0:
            process.fail(f"exit code {process.popen.returncode}")
        return text


# --------------------------------------------------------------------------
# Sluice
# --------------------------------------------------------------------------


@contextlib.contextmanager
def sluice_server(binary, *flags):
    """Starts sluice-server on a free port and gives its address, once it is ready."""
    with Process([binary, "--listen=127.0.0.1:0", "--metrics_listen=", *flags]) as server:
        address = server.wait_for(r"listening grpc=(\S+)").group(1)
        server.wait_for(r"\bready model=")
        yield address


# --------------------------------------------------------------------------
# llama.cpp
# --------------------------------------------------------------------------


def llama_command(tool, gguf, *options):
    """`tool` with its model: {gguf} stands for the file, which is -m FILE otherwise."""
    words = shlex.split(tool)
    model = [] if any("{gguf}" in word for word in words) else ["-m", gguf]
    return [word.replace("{gguf}", gguf) for word in words] + model + [str(option) for option in options]


class LlamaServer:
    """A llama-server that runs."""

    def __init__(self, process, address):
        self._process = process
        self._address = address

    def complete(self, prompt, count, on_token=lambda: None):
        """One greedy completion; calls on_token for each token and returns llama-server's timings. What on_token raises
        ends it."""
        body = {
            "prompt": prompt,
            "n_predict": count,
            "ignore_eos": True,
            "stream": True,
            "cache_prompt": True,
            "temperature": 0,
            "samplers": ["top_k"],
            "top_k": 1,
        }
        connection = http.client.HTTPConnection(*self._address, timeout=START_SECONDS)
        with contextlib.closing(connection):
            connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise Failed(f"llama-server: HTTP {response.status}: {response.read().decode()}")
            for line in response:
                if not line.startswith(b"data: "):
                    continue
                event = json.loads(line[len(b"data: ") :])
                if event.get("stop"):
                    if event["timings"]["predicted_n"] != count:
                        raise Failed(f"llama-server generated {event['timings']['predicted_n']} tokens of {count}")
                    return event["timings"]
                on_token()
        self._process.fail("ended a stream early")


@contextlib.contextmanager
def llama_server(tool, gguf, *options):
    """Starts llama-server on a free port and gives a LlamaServer, once it is ready."""
    command = llama_command(tool, gguf, *options, "--host", "127.0.0.1", "--port", 0)
    with Process(command) as process:
        port = process.wait_for(r"listening on http://127\.0\.0\.1:(\d+)").group(1)
        address = ("127.0.0.1", int(port))
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(*address, timeout=10)
                connection.request("GET", "/health")
                if connection.getresponse().status == 200:
                    break
            if process.popen.poll() is not None:
                process.fail(f"exit code {process.popen.returncode}")
            time.sleep(0.2)
        yield LlamaServer(process, address)
