"""What goes wrong outside the server: clients that are killed, fall silent or send rubbish, and disks that are full.

Each time the server frees what was held, and goes on serving everybody else.
"""

import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import http2

GENERATE = b"/sluice.v1.Generation/Generate"


def hold_a_stream(address, request):
    """A client of its own process: starts a stream, says so when the answer comes, and never reads the rest."""
    with http2.Connection(address) as connection:
        connection.start_call(GENERATE, request)
        connection.await_frame(http2.DATA)
        print("streaming", flush=True)
        sys.stdin.read()


if __name__ == "__main__" and len(sys.argv) == 4 and sys.argv[1] == "--hold_a_stream":
    hold_a_stream(sys.argv[2], bytes.fromhex(sys.argv[3]))
    sys.exit(0)

# pylint: disable=wrong-import-position
import grpc  # noqa: E402

import sluice_server  # noqa: E402
from sluice_server import control_pb2, control_pb2_grpc, generation_pb2, generation_pb2_grpc  # noqa: E402


class FaultsTest(unittest.TestCase):
    def start(self, *flags):
        server = sluice_server.SluiceServer(*flags)

        def stop():
            self.assertEqual(server.stop(), 0, "".join(server.log[-30:]))

        self.addCleanup(stop)
        return server

    def metric(self, server, series):
        for line in server.scrape().splitlines():
            if line.startswith(series + " "):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(f"there is no {series}")

    def await_cancelled(self, server, number):
        """Waits until so many requests have ended as cancelled, and all that they held is free."""
        while self.metric(server, 'sluice_requests_finished_total{reason="cancelled"}') < number:
            pass
        with server.connect() as channel:
            control = control_pb2_grpc.ControlStub(channel)
            while True:
                load = control.GetLoad(control_pb2.GetLoadRequest())
                waiting_or_running = load.waiting_requests + load.running_requests
                if waiting_or_running == 0 and load.free_kv_blocks == load.total_kv_blocks:
                    return

    def assert_serves(self, server):
        """On a connection of its own: one that lies idle in Python answers no pings."""
        request = generation_pb2.GenerateRequest(text="Once there was")
        request.stopping.max_tokens = 3
        request.stopping.ignore_eos = True
        with server.connect() as channel:
            events = list(generation_pb2_grpc.GenerationStub(channel).Generate(request))
        self.assertEqual(events[-1].finished.usage.generated_tokens, 3)

    def test_clients_that_are_killed_in_mid_stream_free_what_they_held(self):
        server = self.start()
        request = sluice_server.unread_request().SerializeToString().hex()
        clients = [
            subprocess.Popen(
                [sys.executable, "-B", __file__, "--hold_a_stream", server.grpc_address, request],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(8)
        ]
        for client in clients:
            self.assertEqual(client.stdout.readline(), "streaming\n")
        for client in clients:
            client.send_signal(signal.SIGKILL)
            client.wait()
            client.stdin.close()
            client.stdout.close()
        self.await_cancelled(server, len(clients))
        self.assert_serves(server)

    def test_a_connection_that_falls_silent_is_closed(self):
        server = self.start("--keepalive_time=1", "--keepalive_timeout=1")
        with http2.Connection(server.grpc_address) as connection:
            connection.start_call(GENERATE, sluice_server.unread_request().SerializeToString())
            # The server asks whether anybody is there; nobody says so.
            self.assertIsNotNone(connection.await_frame(http2.PING))
            connection.await_end()
        self.await_cancelled(server, 1)
        self.assert_serves(server)

    def test_a_silent_stream_whose_client_answers_goes_on(self):
        server = self.start("--keepalive_time=1", "--keepalive_timeout=1")
        with http2.Connection(server.grpc_address) as connection:
            connection.start_call(GENERATE, sluice_server.unread_request().SerializeToString())
            # Nothing else is sent meanwhile.
            for _ in range(4):
                while True:
                    kind, flags, _, payload = connection.await_frame(http2.PING)
                    if flags == 0:
                        break
                connection.send(http2.frame(http2.PING, 1, 0, payload))
            self.assertEqual(self.metric(server, 'sluice_requests_finished_total{reason="cancelled"}'), 0)
        self.await_cancelled(server, 1)

    def test_a_flood_of_pings_closes_the_connection_it_comes_on(self):
        server = self.start()
        with http2.Connection(server.grpc_address) as connection:
            connection.send(http2.PREFACE, http2.frame(http2.SETTINGS))
            ping = http2.frame(http2.PING, payload=b"01234567")
            connection.send(*[ping] * 100)
            goaway = connection.await_frame(http2.GOAWAY)
            self.assertIn(b"too_many_pings", goaway[3])
        self.assert_serves(server)

    def test_frames_that_are_no_frames_end_their_connection_and_nothing_else(self):
        server = self.start()
        rubbish = random.Random(5).randbytes(4096)
        opening = http2.PREFACE + http2.frame(http2.SETTINGS)
        headers = http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.call_headers(GENERATE))
        request = sluice_server.unread_request().SerializeToString()

        def data(payload, flags=http2.END_STREAM):
            return http2.frame(http2.DATA, flags, 1, payload)

        rows = {
            "nothing": b"",
            "rubbish": rubbish,
            "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "the start of TLS": bytes.fromhex("1603010200010001fc0303") + rubbish[:512],
            "half a preface": http2.PREFACE[:10],
            "rubbish behind the preface": http2.PREFACE + rubbish,
            "a frame larger than any": opening + http2.frame(http2.DATA, 0, 1, rubbish, length=0xFFFFFF),
            "half a frame": opening + headers[:-5],
            "settings of an odd size": http2.PREFACE + http2.frame(http2.SETTINGS, payload=b"12345"),
            "data without a call": opening + http2.frame(http2.DATA, 0, 0, rubbish),
            "data for a call that is not there": opening + http2.frame(http2.DATA, 0, 77, rubbish),
            "headers that cannot be decoded": opening + http2.frame(http2.HEADERS, 4, 1, b"\xff" * 64),
            "headers that never end": opening
            + http2.frame(http2.HEADERS, 0, 1, http2.call_headers(GENERATE))
            + http2.frame(http2.CONTINUATION, 0, 1, http2.fields((b"x", b"y" * 100))) * 1000,
            "a window that overflows": opening + http2.frame(http2.WINDOW_UPDATE, payload=b"\x7f\xff\xff\xff") * 2,
            "an unknown method": opening
            + http2.frame(http2.HEADERS, http2.END_HEADERS, 1, http2.call_headers(b"/no/such"))
            + data(b""),
            "a call without a message": opening + headers + data(b""),
            "two messages": opening + headers + data(http2.message(request) * 2),
            "a message cut short": opening + headers + data(http2.message(request)[:-3]),
            "a message of 4 GiB": opening + headers + data(http2.message(request, length=0xFFFFFFFF)),
            "a message that is not compressed": opening + headers + data(http2.message(rubbish, compressed=1)),
            "a compression of a kind unknown": opening + headers + data(http2.message(rubbish, compressed=77)),
            "a message that is none": opening + headers + data(http2.message(rubbish)),
            "a call that is given up": opening
            + headers
            + data(http2.message(request))
            + http2.frame(http2.RST_STREAM, 0, 1, b"\x00\x00\x00\x08"),
            "calls that are given up at once": opening
            + b"".join(
                http2.frame(http2.HEADERS, http2.END_HEADERS, stream, http2.call_headers(GENERATE))
                + http2.frame(http2.RST_STREAM, 0, stream, b"\x00\x00\x00\x08")
                for stream in range(1, 2001, 2)
            ),
        }
        for name, sent in rows.items():
            with self.subTest(name), http2.Connection(server.grpc_address) as connection:
                connection.send(sent)
                connection.finish_sending()
                connection.await_end()
                self.assert_serves(server)
        load = server.control.GetLoad(control_pb2.GetLoadRequest())
        self.assertEqual(load.waiting_requests, 0)

    def test_what_is_too_large_is_refused(self):
        server = self.start("--max_message_bytes=64KiB", "--max_metadata_bytes=4KiB")
        rows = [
            (60_000, 100, grpc.StatusCode.OK),
            (70_000, 100, grpc.StatusCode.RESOURCE_EXHAUSTED),
            (100, 3_000, grpc.StatusCode.OK),
            (100, 5_000, grpc.StatusCode.RESOURCE_EXHAUSTED),
        ]
        for text_bytes, metadata_bytes, code in rows:
            with self.subTest(text=text_bytes, metadata=metadata_bytes):
                request = generation_pb2.TokenizeRequest(text="a " * (text_bytes // 2))
                _, call = self.call_with(server, request, [("x-large", "x" * metadata_bytes)])
                self.assertEqual(call.code(), code, call.details())

    def call_with(self, server, request, metadata):
        try:
            return server.generation.Tokenize.with_call(request, metadata=metadata)
        except grpc.RpcError as error:
            return None, error

    def test_a_full_disk_costs_lines_of_the_access_log_and_nothing_else(self):
        server = self.start("--access_log=/dev/full")
        for _ in range(20):
            self.assert_serves(server)
        while self.metric(server, "sluice_access_log_dropped_lines_total") < 20:
            pass
        said = [line for line in server.log if "loses lines: No space left on device" in line]
        self.assertEqual(len(said), 1)

    def test_a_log_that_cannot_be_written_stops_nothing(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice_faults_"))
        self.addCleanup(shutil.rmtree, folder)
        path = folder / "sluice.sock"
        with open("/dev/full", "w", encoding="ascii") as full:
            process = subprocess.Popen(
                [os.environ["SLUICE_SERVER"], f"--listen=unix:{path}", "--metrics_listen=", "--log_level=debug"],
                stderr=full,
            )
        while not path.exists():
            self.assertIsNone(process.poll())
        with grpc.insecure_channel(f"unix:{path}") as channel:
            control = control_pb2_grpc.ControlStub(channel)
            info = control.GetServerInfo(control_pb2.GetServerInfoRequest(), wait_for_ready=True)
            while not info.ready:
                info = control.GetServerInfo(control_pb2.GetServerInfoRequest())
            generation = generation_pb2_grpc.GenerationStub(channel)
            request = generation_pb2.GenerateRequest(text="Once")
            request.stopping.max_tokens = 3
            self.assertTrue(list(generation.Generate(request))[-1].HasField("finished"))
        process.terminate()
        self.assertEqual(process.wait(), 0)


if __name__ == "__main__":
    unittest.main()
