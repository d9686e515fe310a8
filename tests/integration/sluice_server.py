"""Starts a real sluice-server for a test and talks to it through stubs that are made from the .proto files on the spot.

The environment says where things are: SLUICE_SERVER (the binary), SLUICE_SOURCE_DIR, SLUICE_PROTOC and
SLUICE_GRPC_PYTHON_PLUGIN. Importing this module makes the stubs; the modules are then attributes of it.
"""

import atexit
import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

import grpc

import page_client

SOURCE_DIR = pathlib.Path(os.environ["SLUICE_SOURCE_DIR"])


def _make_stubs():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice_stubs_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    # Python's own `grpc` and `google` packages hide the folders of these: they become modules without a package.
    flat = [
        SOURCE_DIR / "proto/grpc/health/v1/health.proto",
        SOURCE_DIR / "proto/google/rpc/status.proto",
        SOURCE_DIR / "proto/google/rpc/error_details.proto",
        SOURCE_DIR / "tests/integration/reflection.proto",
    ]
    for proto in flat:
        shutil.copy(proto, folder)
    subprocess.run(
        [
            os.environ["SLUICE_PROTOC"],
            f"-I{folder}",
            f"-I{SOURCE_DIR / 'proto'}",
            f"--python_out={folder}",
            f"--grpc_python_out={folder}",
            f"--plugin=protoc-gen-grpc_python={os.environ['SLUICE_GRPC_PYTHON_PLUGIN']}",
            "sluice/v1/generation.proto",
            "sluice/v1/control.proto",
            *(proto.name for proto in flat),
        ],
        check=True,
    )
    sys.path.insert(0, str(folder))


_make_stubs()

# pylint: disable=wrong-import-position
import error_details_pb2  # noqa: E402
import health_pb2  # noqa: E402
import health_pb2_grpc  # noqa: E402
import reflection_pb2  # noqa: E402,F401
import reflection_pb2_grpc  # noqa: E402,F401
import status_pb2  # noqa: E402
from sluice.v1 import control_pb2  # noqa: E402
from sluice.v1 import control_pb2_grpc  # noqa: E402
from sluice.v1 import generation_pb2  # noqa: E402
from sluice.v1 import generation_pb2_grpc  # noqa: E402


def failure_of_start(*flags):
    """What a server says that refuses to start."""
    result = subprocess.run(
        [os.environ["SLUICE_SERVER"], "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0", *flags],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode != 1:
        raise AssertionError(f"exit code {result.returncode}:\n{result.stderr}")
    return result.stderr.splitlines()[-1]


def unread_request():
    """Its answer is more than the network holds, so that it does not end before it is read."""
    request = generation_pb2.GenerateRequest(text="Once there was")
    request.stopping.max_tokens = 900
    request.stopping.ignore_eos = True
    request.response.logprobs = 20
    return request


class SluiceServer:
    """A server on free ports, ready to work once constructed; stop() ends it.

    `credentials`: of a channel, for a server that talks TLS. `flags` may have a --listen of their own: then the first
    of its addresses is talked to.
    """

    def __init__(self, *flags, credentials=None):
        self._process = subprocess.Popen(
            [os.environ["SLUICE_SERVER"], "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0", *flags],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = []
        self._log_changed = threading.Condition()
        self._log_ended = False
        self._addresses = queue.Queue()
        self._reader = threading.Thread(target=self._read_log)
        self._reader.start()
        addresses = self._addresses.get()
        if addresses is None:
            self.wait()
            raise RuntimeError("the server ended:\n" + "".join(self.log))
        self.grpc_address, self.metrics_address = addresses
        self.channel = self.connect(credentials)
        self.generation = generation_pb2_grpc.GenerationStub(self.channel)
        self.control = control_pb2_grpc.ControlStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)
        self._wait_until_ready()

    def _read_log(self):
        """Never lets the pipe fill up; the end of the log counts as an answer to who waits for addresses."""
        for line in self._process.stderr:
            with self._log_changed:
                self.log.append(line)
                self._log_changed.notify_all()
            match = re.search(r"listening grpc=(\S+) metrics=(\S+)", line)
            if match:
                self._addresses.put(match.groups())
        self._addresses.put(None)
        with self._log_changed:
            self._log_ended = True
            self._log_changed.notify_all()

    def mark(self):
        """The present end of the log, for await_log."""
        with self._log_changed:
            return len(self.log)

    def await_log(self, text, since=0):
        """Waits for a line of the log that has `text` in it, and that comes behind the mark `since`."""
        seen = since
        with self._log_changed:
            while True:
                for line in self.log[seen:]:
                    if text in line:
                        return line
                seen = len(self.log)
                if self._log_ended:
                    raise RuntimeError(f"the server ended without '{text}':\n" + "".join(self.log))
                self._log_changed.wait()

    def connect(self, credentials=None, options=()):
        """A channel of its own to the server."""
        address = self.grpc_address.split(",")[0]
        # gRPC shares connections between channels, unless they are kept apart.
        options = (("grpc.use_local_subchannel_pool", 1), *options)
        if credentials is None:
            return grpc.insecure_channel(address, options)
        return grpc.secure_channel(address, credentials, options)

    def peak_memory(self):
        """Bytes that were resident at most (proc(5), VmHWM)."""
        status = pathlib.Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))

    def signal(self, number):
        self._process.send_signal(number)

    def wait(self):
        """Its exit code, once it ends."""
        exit_code = self._process.wait()
        self._reader.join()
        self._process.stderr.close()
        return exit_code

    def _wait_until_ready(self):
        request = health_pb2.HealthCheckRequest(service="sluice.v1.Generation")
        watch = self.health.Watch(request)
        for response in watch:
            if response.status == health_pb2.HealthCheckResponse.SERVING:
                break
        watch.cancel()

    def is_running(self):
        return self._process.poll() is None

    def stop(self):
        """Ends the server as an operator would and returns its exit code."""
        self.channel.close()
        self._process.terminate()
        return self.wait()

    def expert_tokens(self):
        """Tokens per [layer, expert] so far, from GetExpertLoad."""
        response = self.control.GetExpertLoad(control_pb2.GetExpertLoadRequest())
        return {
            (layer.layer, expert): tokens for layer in response.layers for expert, tokens in enumerate(layer.tokens)
        }

    def scraped_expert_tokens(self):
        """The same from the metrics port."""
        tokens = page_client.series(self.scrape(), "sluice_expert_tokens_total")
        return {(int(layer), int(expert)): int(value) for (expert, layer), value in tokens.items()}

    def scrape(self):
        status, _, text = page_client.ask(self, "/metrics")
        if status != 200:
            raise RuntimeError(f"/metrics answered {status}: {text}")
        return text


class ServerTest(unittest.TestCase):
    """Has servers that end with the test, which fails if they do not end well."""

    def start(self, *flags):
        server = SluiceServer(*flags)
        self.addCleanup(lambda: self.assertEqual(server.stop(), 0, "".join(server.log[-30:])))
        return server


def violated_fields(error):
    """The fields that the BadRequest detail of an RpcError names."""
    fields = []
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            bad_request = error_details_pb2.BadRequest()
            if detail.Unpack(bad_request):
                fields.extend(violation.field for violation in bad_request.field_violations)
    return fields
