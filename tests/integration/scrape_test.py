"""The metrics port of a real server: every family as Prometheus wants it, counts that agree with each other in every
single scrape while requests run, what --expert_metrics leaves out, and health from start to end."""

import json
import signal
import subprocess
import threading
import unittest

import http2
import page_client
import sluice_server
from sluice_server import control_pb2, generation_pb2

TOP_K = 2


def requests_of_all_topics():
    """The prompts of the golden cases, which keep all experts busy."""
    with open(sluice_server.SOURCE_DIR / "models/demo/golden.json", encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    for case in cases:
        request = generation_pb2.GenerateRequest()
        for message in case["messages"]:
            request.chat.messages.add(**message)
        request.sampling.temperature = 0
        yield request


def run_all(server, requests):
    """All at once; returns when every answer is there."""
    calls = [server.generation.Generate(request) for request in requests]
    for call in calls:
        for _ in call:
            pass


class MetricsTest(sluice_server.ServerTest):
    def test_promtool_has_nothing_to_say(self):
        server = self.start()
        run_all(server, requests_of_all_topics())
        # A refused request, so that there is an error to be counted.
        with self.assertRaises(sluice_server.grpc.RpcError):
            list(server.generation.Generate(generation_pb2.GenerateRequest()))
        text = server.scrape()
        self.assertEqual(page_client.series(text, "sluice_requests_total")["OK", "Generate"], 24)
        result = subprocess.run(
            ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_build_info_says_which_kernels_are_in_use_and_which_were_declined(self):
        server = self.start()
        report = server.control.GetServerInfo(control_pb2.GetServerInfoRequest()).kernels
        ((_, declined, _, kernels, _),) = page_client.series(server.scrape(), "sluice_build_info")
        self.assertEqual(kernels, "; ".join(line for line in report if " declined: " not in line))
        self.assertEqual(declined, "; ".join(line for line in report if " declined: " in line))
        self.assertIn("attention: ", kernels)

    def check_scrape(self, text):
        """The sums of one scrape; returns the tokens that had passed the layers."""
        tokens = page_client.series(text, "sluice_expert_tokens_total")
        weights = page_client.series(text, "sluice_expert_weight_total")
        self.assertEqual(len(tokens), 48)
        by_layer = {}
        weight_by_layer = {}
        for (expert, layer), value in tokens.items():
            by_layer[layer] = by_layer.get(layer, 0) + value
            weight_by_layer[layer] = weight_by_layer.get(layer, 0) + weights[expert, layer]
        # Every token passes each layer, to so many experts, whose weights add up to one.
        self.assertEqual(len(set(by_layer.values())), 1, by_layer)
        total = by_layer["0"]
        self.assertEqual(total % TOP_K, 0)
        for weight in weight_by_layer.values():
            # Each token's weights are rounded to 24 bits.
            self.assertAlmostEqual(weight, total / TOP_K, delta=1e-9 + total * 2.0**-22)
        return total / TOP_K

    def check_experts(self, experts):
        sums = {sum(layer["tokens"]) for layer in experts["layers"]}
        self.assertEqual(len(sums), 1, experts)
        total = sums.pop()
        self.assertEqual(total % (experts["experts_per_token"]), 0)
        return total / TOP_K

    def test_every_scrape_is_of_whole_steps(self):
        server = self.start()
        done = threading.Event()
        problems = []
        scrapes = []

        def scrape():
            last = 0
            try:
                while not done.is_set():
                    tokens = self.check_scrape(server.scrape())
                    self.assertGreaterEqual(tokens, last)
                    last = self.check_experts(page_client.experts(server))
                    self.assertGreaterEqual(last, tokens)
                    scrapes.append(last)
            except Exception as error:  # pylint: disable=broad-except
                problems.append(error)

        scrapers = [threading.Thread(target=scrape) for _ in range(2)]
        for scraper in scrapers:
            scraper.start()
        # Until there were scrapes of many different moments.
        while len(set(scrapes)) < 50 and not problems:
            run_all(server, requests_of_all_topics())
        done.set()
        for scraper in scrapers:
            scraper.join()
        self.assertEqual(problems, [])

        # In the end everything agrees: tokens that were computed are tokens that were routed.
        text = server.scrape()
        value = lambda name: page_client.series(text, f"sluice_{name}")[()]
        routed = self.check_scrape(text)
        load = server.control.GetLoad(control_pb2.GetLoadRequest())
        fed_back = load.generated_tokens - page_client.series(text, "sluice_requests_total")["OK", "Generate"]
        self.assertEqual(routed, value("prompt_tokens_total") - value("prompt_tokens_cached_total") + fed_back)
        self.assertEqual(value("generation_tokens_total"), load.generated_tokens)
        self.assertEqual(value("step_seconds_count"), load.steps)
        self.assertEqual(value("time_to_first_token_seconds_count"), value("request_latency_seconds_count"))
        self.assertEqual(
            value("inter_token_latency_seconds_count") + value("time_to_first_token_seconds_count"),
            load.generated_tokens,
        )
        experts = page_client.experts(server)
        self.assertEqual(experts["steps"], load.steps)
        self.assertEqual(
            {(layer["layer"], i): n for layer in experts["layers"] for i, n in enumerate(layer["tokens"])},
            server.expert_tokens(),
        )

    def test_expert_metrics_chooses_what_is_exported(self):
        per_layer = {
            f"sluice_moe_{name}"
            for name in ("imbalance", "active_experts", "routing_entropy", "load_balance_loss", "layer_seconds_total")
        }
        per_expert = {"sluice_expert_tokens_total", "sluice_expert_weight_total"}
        for mode, expected in [
            ("per_expert", per_expert | per_layer),
            ("per_layer", per_layer),
            ("off", set()),
        ]:
            with self.subTest(mode):
                server = self.start(f"--expert_metrics={mode}")
                run_all(server, list(requests_of_all_topics())[:1])
                text = server.scrape()
                self.assertEqual({name for name in per_expert | per_layer if name in text}, expected)
                # Whoever asks for them is told anyhow.
                self.assertGreater(sum(server.expert_tokens().values()), 0)
                self.assertGreater(self.check_experts(page_client.experts(server)), 0)

    def test_paths_and_methods(self):
        server = self.start()
        for path, status, content_type in [
            ("/metrics", 200, "text/plain; version=0.0.4; charset=utf-8"),
            ("/healthz", 200, "text/plain; charset=utf-8"),
            ("/readyz", 200, "text/plain; charset=utf-8"),
            ("/experts.json", 200, "application/json"),
            ("/", 200, "text/html; charset=utf-8"),
            ("/nothing", 404, "text/plain; charset=utf-8"),
            ("/page/index.html", 404, "text/plain; charset=utf-8"),
        ]:
            with self.subTest(path):
                answer = page_client.ask(server, path)
                self.assertEqual((answer[0], answer[1]["Content-Type"]), (status, content_type))
                self.assertEqual(answer[1]["X-Content-Type-Options"], "nosniff")
                self.assertEqual(answer[1]["Cache-Control"], "no-store")
                head = page_client.ask(server, path, "HEAD")
                self.assertEqual((head[0], head[2]), (status, ""))
                other = page_client.ask(server, path, "POST")
                self.assertEqual((other[0], other[1]["Allow"]), (405, "GET, HEAD"))

    def test_readiness_ends_before_life_does(self):
        server = sluice_server.SluiceServer()
        self.assertEqual(page_client.ask(server, "/readyz")[::2], (200, "ready\n"))
        with http2.Connection(server.grpc_address) as connection:
            connection.start_call(b"/sluice.v1.Generation/Generate", sluice_server.unread_request().SerializeToString())
            connection.await_frame(http2.DATA)
            server.signal(signal.SIGTERM)
            server.await_log("draining")
            while page_client.ask(server, "/readyz")[0] == 200:
                pass
            self.assertEqual(page_client.ask(server, "/readyz")[::2], (503, "draining\n"))
            self.assertEqual(page_client.ask(server, "/healthz")[::2], (200, "ok\n"))
            self.assertEqual(json.loads(page_client.ask(server, "/experts.json")[2])["state"], "draining")
        self.assertEqual(server.wait(), 0)


if __name__ == "__main__":
    unittest.main()
