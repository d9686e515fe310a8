"""How calls come in: TLS and whose certificates it takes, tokens, Unix sockets, signals, and what is logged of it."""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import tempfile
import unittest

import grpc

import certificates
import sluice_server
from sluice_server import control_pb2, control_pb2_grpc, generation_pb2, health_pb2


def read(path):
    return pathlib.Path(path).read_bytes()


def replace(target, source):
    """As one step, as tools that renew certificates do."""
    staged = f"{target}.new"
    shutil.copy(source, staged)
    os.replace(staged, target)


def code_of_call(channel):
    """How GetServerInfo ends over `channel`, and what is said about it."""
    stub = control_pb2_grpc.ControlStub(channel)
    try:
        stub.GetServerInfo(control_pb2.GetServerInfoRequest())
        return grpc.StatusCode.OK, ""
    except grpc.RpcError as error:
        return error.code(), error.details()


def long_request(tokens=900):
    request = generation_pb2.GenerateRequest(text="Once there was")
    request.stopping.max_tokens = tokens
    request.stopping.ignore_eos = True
    return request


def locked_key(folder, key):
    """A file of the same key with a password."""
    locked = folder / "locked.key"
    subprocess.run(["openssl", "pkcs8", "-topk8", "-in", key, "-out", locked, "-passout", "pass:x"], check=True)
    return locked


class TransportTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice_transport_"))
        self.addCleanup(shutil.rmtree, self.folder)

    @contextlib.contextmanager
    def running(self, *flags, **options):
        server = sluice_server.SluiceServer(*flags, **options)
        try:
            yield server
        finally:
            exit_code = server.stop()
        self.assertEqual(exit_code, 0, "".join(server.log[-30:]))

    def sluice(self, *arguments):
        command = [os.environ["SLUICE_CLI"], *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


class TlsTest(TransportTest):
    def setUp(self):
        super().setUp()
        self.authority = certificates.Authority(self.folder)
        self.server_pair = self.authority.issue("server")
        self.flags = [f"--tls_cert={self.server_pair.cert}", f"--tls_key={self.server_pair.key}"]

    def credentials(self, pair=None, authority=None):
        authority = authority or self.authority
        if pair is None:
            return grpc.ssl_channel_credentials(read(authority.cert))
        return grpc.ssl_channel_credentials(read(authority.cert), read(pair.key), read(pair.cert))

    def test_only_who_trusts_the_authority_talks_to_the_server(self):
        other = certificates.Authority(self.folder, "other")
        with self.running(*self.flags, credentials=self.credentials()) as server:
            self.assertEqual(code_of_call(server.channel)[0], grpc.StatusCode.OK)
            # A stranger's authority; no TLS at all.
            for channel in (server.connect(self.credentials(authority=other)), server.connect()):
                self.assertEqual(code_of_call(channel)[0], grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(code_of_call(server.channel)[0], grpc.StatusCode.OK)
            self.assertIn("tls=server", server.await_log("transport"))

    def test_clients_need_a_certificate_of_the_client_authority(self):
        clients = certificates.Authority(self.folder, "clients")
        good = clients.issue("good")
        flags = [*self.flags, f"--tls_client_ca={clients.cert}"]
        with self.running(*flags, credentials=self.credentials(good)) as server:
            self.assertEqual(code_of_call(server.channel)[0], grpc.StatusCode.OK)
            bad = {
                "none": None,
                "of the wrong authority": self.authority.issue("wrong"),
                "self-signed": certificates.self_signed(self.folder),
                "expired": clients.issue("expired", days=-1),
            }
            for name, pair in bad.items():
                with self.subTest(name):
                    code, _ = code_of_call(server.connect(self.credentials(pair)))
                    self.assertEqual(code, grpc.StatusCode.UNAVAILABLE)
            # The certificate of one with the key of another.
            swapped = certificates.Pair(good.cert, bad["expired"].key)
            self.assertEqual(code_of_call(server.connect(self.credentials(swapped)))[0], grpc.StatusCode.UNAVAILABLE)
            self.assertEqual(code_of_call(server.channel)[0], grpc.StatusCode.OK)
            self.assertIn("tls=mutual", server.await_log("transport"))

            address = server.grpc_address
            common = ["info", f"--address={address}", f"--tls_ca={self.authority.cert}", "--timeout=5"]
            done = self.sluice(*common, f"--tls_cert={good.cert}", f"--tls_key={good.key}")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("demo", done.stdout)
            self.assertEqual(self.sluice(*common).returncode, 1)

    def test_new_certificates_are_taken_and_broken_ones_are_not(self):
        with self.running(*self.flags, credentials=self.credentials()) as server:
            second = certificates.Authority(self.folder, "second")
            renewed = second.issue("renewed")
            # The key alone does not fit the certificate that is there.
            replace(self.server_pair.key, renewed.key)
            server.await_log("is not the key of the certificate")
            self.assertEqual(code_of_call(server.connect(self.credentials()))[0], grpc.StatusCode.OK)
            replace(self.server_pair.cert, renewed.cert)
            server.await_log("tls files read again")
            self.assertEqual(code_of_call(server.connect(self.credentials()))[0], grpc.StatusCode.UNAVAILABLE)
            new_credentials = self.credentials(authority=second)
            self.assertEqual(code_of_call(server.connect(new_credentials))[0], grpc.StatusCode.OK)
            # Garbage, then nothing at all.
            self.server_pair.cert.write_text("no certificate")
            server.await_log("holds no certificate")
            mark = server.mark()
            self.server_pair.key.unlink()
            server.signal(signal.SIGHUP)
            server.await_log("cannot be read", mark)
            # One that OpenSSL takes for too weak, and gRPC would hand on all the same.
            weak = certificates.self_signed(self.folder, "weak", key=certificates.SHORT_KEY)
            replace(self.server_pair.key, weak.key)
            replace(self.server_pair.cert, weak.cert)
            server.await_log("is refused by OpenSSL", mark)
            self.assertEqual(code_of_call(server.connect(new_credentials))[0], grpc.StatusCode.OK)
            # A connection that is there goes on all the while.
            self.assertEqual(code_of_call(server.channel)[0], grpc.StatusCode.OK)

    def test_an_expired_certificate_of_the_server_is_refused_by_clients_and_warned_of(self):
        expired = self.authority.issue("expired_server", days=-1)
        replace(self.server_pair.cert, expired.cert)
        replace(self.server_pair.key, expired.key)
        process = subprocess.Popen(
            [os.environ["SLUICE_SERVER"], "--listen=127.0.0.1:0", "--metrics_listen=", *self.flags],
            stderr=subprocess.PIPE,
            text=True,
        )
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "listening grpc=" in line:
                break
        address = lines[-1].split("grpc=")[1].split()[0]
        self.assertTrue(any("has expired" in line for line in lines), lines)
        with grpc.secure_channel(address, self.credentials()) as channel:
            self.assertEqual(code_of_call(channel)[0], grpc.StatusCode.UNAVAILABLE)
        process.kill()
        process.wait()
        process.stderr.close()

    def test_files_that_do_not_fit_are_one_sentence_that_names_the_flag(self):
        other = self.authority.issue("other_server")
        empty = self.folder / "empty.pem"
        empty.touch()
        locked = locked_key(self.folder, self.server_pair.key)
        short = certificates.self_signed(self.folder, "short", key=certificates.SHORT_KEY)
        outdated = certificates.Authority(self.folder, "outdated", key=certificates.RSA_KEY)
        md5 = outdated.issue("md5", digest="md5")
        sha1 = outdated.issue("sha1", digest="sha1")
        # The server's own certificate is good, the one that it shows behind it is not.
        chain = certificates.Pair(self.folder / "chain.pem", self.server_pair.key)
        chain.cert.write_bytes(read(self.server_pair.cert) + read(short.cert))
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)

        def flags_of(pair):
            return [f"--tls_cert={pair.cert}", f"--tls_key={pair.key}"]

        cert, key = self.flags
        rows = [
            (["--tls_cert=/no/such/file", key], "--tls_cert=/no/such/file cannot be read"),
            ([f"--tls_cert={empty}", key], f"--tls_cert={empty} holds no certificate"),
            ([f"--tls_cert={self.folder}", key], f"--tls_cert={self.folder} cannot be read"),
            ([cert, f"--tls_key={empty}"], f"--tls_key={empty} holds no private key"),
            ([cert, f"--tls_key={locked}"], f"--tls_key={locked} holds no private key"),
            ([cert, f"--tls_key={other.key}"], f"--tls_key={other.key} is not the key of the certificate"),
            ([cert, key, f"--tls_client_ca={empty}"], f"--tls_client_ca={empty} holds no certificate"),
            ([cert], "--tls_key"),
            (flags_of(short), f"--tls_cert={short.cert} is refused by OpenSSL: ee key too small"),
            (flags_of(md5), f"--tls_cert={md5.cert} is refused by OpenSSL: ca md too weak"),
            (flags_of(sha1), f"--tls_cert={sha1.cert} is refused by OpenSSL: ca md too weak"),
            (flags_of(chain), f"--tls_cert={chain.cert} is refused by OpenSSL: "),
            ([f"--tls_cert={pipe}", key], f"--tls_cert={pipe} cannot be read: it is no file"),
        ]
        for flags, message in rows:
            with self.subTest(message):
                said = sluice_server.failure_of_start(*flags)
                self.assertIn("sluice-server: ", said)
                self.assertIn(message, said)

    def test_files_of_a_client_that_do_not_fit_are_one_sentence_that_names_the_option(self):
        client, other = self.authority.issue("client"), self.authority.issue("other_client")
        short = certificates.self_signed(self.folder, "short", key=certificates.SHORT_KEY)
        garbage = self.folder / "garbage.pem"
        garbage.write_text("no certificate")
        empty = self.folder / "empty.pem"
        empty.touch()
        locked = locked_key(self.folder, client.key)
        # A good certificate, and half of one.
        cut = self.folder / "cut.pem"
        authority = read(self.authority.cert)
        cut.write_bytes(authority + authority[:len(authority) // 2])
        rows = [
            ("/no/such/file", client.cert, client.key, "tls_ca: the file /no/such/file cannot be read"),
            (empty, client.cert, client.key, f"tls_ca: the file {empty} cannot be read, or is empty"),
            (self.folder, client.cert, client.key, f"tls_ca: the file {self.folder} cannot be read"),
            ("/dev/zero", client.cert, client.key, "tls_ca: the file /dev/zero is larger than 1 MiB"),
            (cut, client.cert, client.key, f"tls_ca: the file {cut} holds no certificate"),
            (self.authority.cert, client.cert, locked, f"tls_key: the file {locked} holds no private key"),
            (garbage, client.cert, client.key, f"tls_ca: the file {garbage} holds no certificate"),
            (self.authority.cert, garbage, client.key, f"tls_cert: the file {garbage} holds no certificate"),
            (self.authority.cert, client.cert, garbage, f"tls_key: the file {garbage} holds no private key"),
            (self.authority.cert, client.cert, other.key, f"tls_key: the file {other.key} is not the key"),
            (self.authority.cert, short.cert, short.key, f"tls_cert: the file {short.cert} is refused by OpenSSL"),
        ]
        for ca, cert, key, message in rows:
            with self.subTest(message):
                # Nothing listens there, and nobody asks.
                files = ["--tls_ca", ca, "--tls_cert", cert, "--tls_key", key]
                done = self.sluice("info", "--address=127.0.0.1:1", *files)
                self.assertEqual(done.returncode, 2)
                self.assertIn(message, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)


class TokensTest(TransportTest):
    def setUp(self):
        super().setUp()
        self.tokens = self.folder / "tokens"
        self.write_tokens(alice="correct horse")

    def write_tokens(self, **tokens):
        lines = [f"{name} {hashlib.sha256(token.encode()).hexdigest()}\n" for name, token in tokens.items()]
        self.tokens.write_text("".join(lines))

    def call(self, server, token):
        metadata = [] if token is None else [("authorization", f"Bearer {token}")]
        try:
            server.control.GetLoad(control_pb2.GetLoadRequest(), metadata=metadata)
            return grpc.StatusCode.OK
        except grpc.RpcError as error:
            return error.code()

    def test_callers_need_a_token_and_new_ones_are_taken(self):
        ok, unauthenticated = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED
        with self.running(f"--auth_tokens={self.tokens}") as server:
            self.assertEqual(self.call(server, "correct horse"), ok)
            for token in (None, "wrong horse", ""):
                self.assertEqual(self.call(server, token), unauthenticated)
            mark = server.mark()
            self.write_tokens(bob="battery staple")
            server.await_log("tokens read again tokens=1", mark)
            self.assertEqual(self.call(server, "correct horse"), unauthenticated)
            self.assertEqual(self.call(server, "battery staple"), ok)
            self.tokens.write_text("bob battery-staple")
            server.await_log("line 1: the name must be followed by the SHA-256")
            self.assertEqual(self.call(server, "battery staple"), ok)

            secret = self.folder / "secret"
            secret.write_text("battery staple\n")
            refused = self.sluice("info", f"--address={server.grpc_address}")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("UNAUTHENTICATED", refused.stderr)
            health = self.sluice("health", f"--address={server.grpc_address}")
            self.assertEqual(health.returncode, 0, health.stderr)
            # A token has no blanks where it is read from a file.
            blank = self.sluice("info", f"--address={server.grpc_address}", f"--token_file={secret}")
            self.assertEqual(blank.returncode, 2)
            mark = server.mark()
            self.write_tokens(carol="tr0ub4dor")
            server.signal(signal.SIGHUP)
            server.await_log("tokens read again tokens=1", mark)
            secret.write_text("tr0ub4dor\n")
            self.assertEqual(self.call(server, "tr0ub4dor"), ok)
            done = self.sluice("info", f"--address={server.grpc_address}", f"--token_file={secret}")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        for line in server.log:
            for token in ("horse", "battery", "tr0ub4dor"):
                self.assertNotIn(token, line)

    def test_a_broken_file_is_one_sentence_that_names_flag_and_line(self):
        self.tokens.write_text("# mine\nalice abc\n")
        said = sluice_server.failure_of_start(f"--auth_tokens={self.tokens}")
        self.assertIn(f"--auth_tokens={self.tokens} line 2: ", said)
        said = sluice_server.failure_of_start("--auth_tokens=/no/such/file")
        self.assertIn("--auth_tokens=/no/such/file cannot be read: No such file", said)


class UnixSocketTest(TransportTest):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "sluice.sock"
        self.flag = f"--listen=unix:{self.path}"

    def test_serves_on_a_socket_and_removes_it(self):
        with self.running(self.flag + ",127.0.0.1:0", "--socket_mode=0600") as server:
            addresses = server.grpc_address.split(",")
            self.assertEqual(addresses[0], f"unix:{self.path}")
            self.assertEqual(code_of_call(server.channel)[0], grpc.StatusCode.OK)
            with grpc.insecure_channel(addresses[1]) as channel:
                self.assertEqual(code_of_call(channel)[0], grpc.StatusCode.OK)
            self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
            done = self.sluice("info", f"--address=unix:{self.path}")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            # Another server leaves it alone.
            said = sluice_server.failure_of_start(self.flag)
            self.assertIn(f"{self.flag}: another server listens on it", said)
            self.assertEqual(code_of_call(server.connect())[0], grpc.StatusCode.OK)
        self.assertFalse(self.path.exists())

    def test_replaces_the_socket_of_a_server_that_was_killed_but_nothing_else(self):
        server = sluice_server.SluiceServer(self.flag)
        server.channel.close()
        server.signal(signal.SIGKILL)
        server.wait()
        self.assertTrue(self.path.exists())
        with self.running(self.flag) as successor:
            self.assertEqual(code_of_call(successor.channel)[0], grpc.StatusCode.OK)
        self.path.write_text("precious")
        self.assertIn("there is something else of that name", sluice_server.failure_of_start(self.flag))
        self.assertEqual(self.path.read_text(), "precious")


    def test_a_socket_that_another_server_has_by_now_is_not_removed(self):
        with self.running(self.flag):
            self.path.rename(self.folder / "moved.sock")
            successor = sluice_server.SluiceServer(self.flag)
            self.addCleanup(successor.stop)
        self.assertEqual(code_of_call(successor.connect())[0], grpc.StatusCode.OK)


class SignalsTest(TransportTest):
    def test_a_draining_server_says_so_and_admits_nothing(self):
        server = sluice_server.SluiceServer("--drain_timeout=60")
        # More than what is on its way to a client that does not read can hold.
        request = long_request()
        request.response.logprobs = 20
        stream = server.generation.Generate(request)
        next(stream)
        watch = server.health.Watch(health_pb2.HealthCheckRequest(service="sluice.v1.Generation"))
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.SERVING)
        server.signal(signal.SIGTERM)
        self.assertEqual(next(watch).status, health_pb2.HealthCheckResponse.NOT_SERVING)
        info = server.control.GetServerInfo(control_pb2.GetServerInfoRequest())
        self.assertFalse(info.ready)
        self.assertEqual(info.phase, control_pb2.SERVER_PHASE_DRAINING)
        self.assertIn(", draining, ", self.sluice("info", f"--address={server.grpc_address}").stdout)
        for call in (lambda: next(server.generation.Generate(long_request())),
                     lambda: server.generation.Tokenize(generation_pb2.TokenizeRequest(text="x"))):
            with self.assertRaises(grpc.RpcError) as caught:
                call()
            self.assertEqual(caught.exception.code(), grpc.StatusCode.UNAVAILABLE)
        events = list(stream)
        self.assertEqual(events[-1].finished.usage.generated_tokens, 900)
        self.assertEqual(server.wait(), 0, "".join(server.log))

    def test_a_second_signal_ends_the_server_at_once(self):
        folder = self.folder / "sluice.sock"
        server = sluice_server.SluiceServer(f"--listen=unix:{folder}", "--drain_timeout=3600")
        # Answers that nobody reads keep their calls open.
        request = long_request()
        request.response.logprobs = 20
        streams = [server.generation.Generate(request) for _ in range(4)]
        for stream in streams:
            next(stream)
        server.signal(signal.SIGTERM)
        server.await_log("draining")
        self.assertTrue(server.is_running())
        server.signal(signal.SIGTERM)
        self.assertEqual(server.wait(), 1)
        self.assertFalse(folder.exists())


class AccessLogTest(TransportTest):
    def lines_of(self, path):
        return [json.loads(line) for line in pathlib.Path(path).read_text().splitlines()]

    def test_every_call_has_a_line_wherever_it_goes(self):
        path = self.folder / "access.log"
        metadata = [("traceparent", f"00-{'a' * 32}-{'b' * 16}-01")]
        for flag in (f"--access_log={path}", "--access_log=stderr", "--access_log=off"):
            with self.running(flag) as server:
                list(server.generation.Generate(long_request(tokens=3), metadata=metadata))
                server.control.GetLoad(control_pb2.GetLoadRequest())
            on_stderr = [json.loads(line) for line in server.log if line.startswith("{")]
            if flag.endswith("off"):
                self.assertFalse(on_stderr)
                continue
            lines = self.lines_of(path) if flag.endswith("log") else on_stderr
            self.assertEqual([line["method"] for line in lines], ["Generate", "GetLoad"])
            self.assertEqual(lines[0]["generated_tokens"], 3)
            self.assertEqual(lines[0]["finish_reason"], "length")
            self.assertEqual(lines[0]["trace_id"], "a" * 32)
            self.assertEqual(lines[0]["model"], "demo")
            self.assertNotIn("Once there was", json.dumps(lines))

    def test_prompts_are_logged_if_a_flag_says_so(self):
        with self.running("--log_prompts=true") as server:
            list(server.generation.Generate(long_request(tokens=3)))
        lines = [json.loads(line) for line in server.log if line.startswith("{")]
        self.assertEqual(lines[0]["prompt"], "Once there was")
        self.assertEqual(len(lines[0]["answers"]), 1)

    def test_sighup_opens_the_file_anew(self):
        path = self.folder / "access.log"
        with self.running(f"--access_log={path}") as server:
            path.rename(self.folder / "access.log.1")
            server.signal(signal.SIGHUP)
            while not path.exists():
                pass
            server.control.GetLoad(control_pb2.GetLoadRequest())
        self.assertEqual([line["method"] for line in self.lines_of(path)], ["GetLoad"])


    def test_lines_go_where_whoever_reads_them_is(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        said = sluice_server.failure_of_start(f"--access_log={pipe}")
        self.assertIn(f"--access_log={pipe} cannot be opened: nobody reads it", said)
        said = sluice_server.failure_of_start(f"--access_log={self.folder}")
        self.assertIn(f"--access_log={self.folder} cannot be opened: Is a directory", said)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with self.running(f"--access_log={pipe}") as server:
            server.control.GetLoad(control_pb2.GetLoadRequest())
        with open(reader, encoding="utf-8") as lines:
            self.assertEqual([json.loads(line)["method"] for line in lines], ["GetLoad"])
        # By whatever name: the log and the calls share one writer.
        with self.running("--access_log=/dev/stderr") as server:
            server.control.GetLoad(control_pb2.GetLoadRequest())
        self.assertEqual([json.loads(line)["method"] for line in server.log if line.startswith("{")], ["GetLoad"])


class FlagsTest(TransportTest):
    def test_a_port_that_is_taken_is_one_sentence_that_names_flag_and_address(self):
        with self.running() as server:
            for flag, address in (("--listen", server.grpc_address), ("--metrics_listen", server.metrics_address)):
                said = sluice_server.failure_of_start(f"{flag}={address}")
                self.assertIn("sluice-server: " + flag, said)
                self.assertIn(address, said)

    def test_metrics_need_an_ip_address(self):
        said = sluice_server.failure_of_start("--metrics_listen=metrics.example:9090")
        self.assertIn("--metrics_listen must have an IP address", said)

    def test_the_prefix_cache_can_be_turned_off(self):
        request = long_request(tokens=1)
        request.text = "Once there was a fox who lived by the river, and every morning it ran down to the water. " * 3
        for value, is_on in (("true", True), ("false", False)):
            with self.running(f"--prefix_cache={value}") as server:
                for _ in range(2):
                    events = list(server.generation.Generate(request))
                self.assertEqual(events[0].started.cached_prompt_tokens > 0, is_on)

    def test_the_kv_cache_is_sized_by_what_there_is(self):
        with self.running("--kv_cache_bytes=auto") as server:
            list(server.generation.Generate(long_request(tokens=3)))
        # More than the demo model can use: 32 answers of 2,048 tokens.
        self.assertRegex(server.await_log("kv_cache_bytes=auto"), r"bytes=(\d+): the lesser of \1,")
        self.assertRegex(server.await_log("kv_cache format="), r" tokens=65536$")


if __name__ == "__main__":
    unittest.main()
