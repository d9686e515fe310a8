"""A real Prometheus scrapes a running server; every expression of the dashboards and of the rules must have an answer.

The topic of the traffic changes, and the shares of the experts that the dashboard shows must be those that were measured
when the demo model was made (models/demo/evaluation.json). What the panels with transformations get is written to the
file that SLUICE_ANSWERS names, for dashboards_test.
"""

import json
import math
import os
import re
import time
import unittest

import page_client
import prometheus_server
import rule_files
import sluice_server
from sluice_server import generation_pb2

DEPLOY = sluice_server.SOURCE_DIR / "deploy"
DEMO = sluice_server.SOURCE_DIR / "models/demo"
TOPICS = ("story", "chinese")
# A server of two hours ago, of which Prometheus knows what it counted.
EARLIER = "earlier:9090"

# Alerts whose expressions have no answer here, and why. All panels, all recorded series and the other alerts must have one:
# SluiceExpertImbalance, since a story is longer than an answer in Chinese and keeps to the same experts.
EMPTY_ALERTS = {
    "SluiceServerDown": "the server answers",
    "SluiceServersMissing": "there is a server",
    "SluiceServersFewer": "no server has gone",
    "SluiceServerRestarts": "the server does not restart",
    "SluiceStalled": "the server computes tokens",
    "SluiceInternalErrors": "no call fails",
    "SluiceFirstTokenSlow": "first tokens come at once",
    "SluiceFirstTokenSlowForDays": "first tokens come at once",
    "SluiceTokensSlow": "tokens come at once",
    "SluiceTokensSlowForDays": "tokens come at once",
    "SluiceQueueSaturated": "nothing waits",
    "SluiceRejections": "nothing is rejected",
    "SluiceKvCacheExhausted": "the KV cache is empty",
    "SluicePreemptions": "nothing is preempted",
    "SluiceExpertCollapse": "the experts differ from topic to topic",
    "SluiceDeadExperts": "no expert is dead",
    "SluiceRoutingEntropyDropped": "the entropy was the same before",
}
# Those that have no answer either when every comparison answers 0 or 1.
EMPTY_COMPARISONS = {"SluiceServersMissing": "absent() of what is there has no answer"}

server = None
prometheus = None
# Expert tokens of each topic by [layer, expert], as the dashboard shows them.
tokens_by_topic = {}
window = None
evaluated_at = None


def heldout_prompts(topic):
    with open(DEMO / "heldout.jsonl", encoding="utf-8") as file:
        cases = [json.loads(line) for line in file]
    return [case["prompt"] for case in cases if case["topic"] == topic]


def ask(to, prompts, bypass_prefix_cache):
    calls = []
    for prompt in prompts:
        request = generation_pb2.GenerateRequest(bypass_prefix_cache=bypass_prefix_cache)
        request.chat.messages.add(role="user", content=prompt)
        request.sampling.temperature = 0
        calls.append(to.generation.Generate(request))
    for call in calls:
        for _ in call:
            pass


def history():
    """What a scrape of a server that has served both topics says, as if it had come to that in the last two hours."""
    earlier = sluice_server.SluiceServer()
    for topic in TOPICS:
        ask(earlier, heldout_prompts(topic), bypass_prefix_cache=False)
    scrape = earlier.scrape() + "up 1\n"
    exit_code = earlier.stop()
    if exit_code != 0:
        raise AssertionError(f"the server ended with {exit_code}")
    now = int(time.time())
    times = range(now - 150 * 60, now - 60, 120)
    for name, labels, value in page_client.samples(scrape):
        labels = ",".join(filter(None, ['job="sluice"', f'instance="{EARLIER}"', labels]))
        is_counter = name.endswith(("_total", "_bucket", "_sum", "_count"))
        for i, at in enumerate(times):
            yield f"{name}{{{labels}}} {float(value) * i if is_counter else float(value)!r} {at}"


def dashboards():
    for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def rules(kind):
    return [(rule[kind], rule["expr"]) for rule in rule_files.rules(kind)]


def filled_in(text, values):
    for name, value in values.items():
        text = text.replace("$" + name, value)
    return text


def variables(dashboard, chosen):
    """What Grafana puts for each variable: all values where more than one may be chosen, else the first; `chosen` wins."""
    values = {"__rate_interval": window, "__range": window, "__interval": "1s"}
    for variable in dashboard["templating"]["list"]:
        if variable["type"] != "query":
            continue
        name = variable["name"]
        found = prometheus.label_values(filled_in(variable["query"]["query"], values))
        if not found:
            raise AssertionError(f"{dashboard['uid']}: the variable {name} has no values")
        if name in chosen:
            found = [value for value in found if value == chosen[name]]
        if not variable.get("multi"):
            values[name] = found[0]
        elif "allValue" in variable and name not in chosen:
            values[name] = variable["allValue"]
        else:
            values[name] = "(" + "|".join(re.escape(value).replace("\\", "\\\\") for value in found) + ")"
    return values


def expressions(dashboard, **chosen):
    """Each target of each panel, and its expression with all variables filled in."""
    values = variables(dashboard, chosen)
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel, target, filled_in(target["expr"], values)


def has_numbers(answer):
    return any(not math.isnan(float(sample["value"][1])) for sample in answer)


def expressions_of(title):
    """{refId: expression} of a panel that shows the experts, of the running server."""
    dashboard = next(d for d in dashboards() if d["uid"] == "sluice-experts")
    asked = expressions(dashboard, instance=server.metrics_address)
    found = {target["refId"]: expression for panel, target, expression in asked if panel["title"] == title}
    if not found:
        raise AssertionError(f"there is no panel '{title}'")
    return found


def counters():
    """The panel that shows them."""
    return {
        (int(sample["metric"]["layer"]), int(sample["metric"]["expert"])): int(sample["value"][1])
        for sample in prometheus.query(expressions_of("Tokens of each expert since the servers started")["A"])
    }


def setUpModule():
    global server, prometheus, window, evaluated_at
    lines = list(history())
    started = time.time()
    server = sluice_server.SluiceServer()
    prometheus = prometheus_server.PrometheusServer(
        DEPLOY / "prometheus/prometheus.yaml", server.metrics_address, lines
    )
    here = f'instance="{server.metrics_address}"'
    # Zeros come first, so that an increase is all that was counted.
    prometheus.await_true(lambda: prometheus.query(f"sluice_expert_tokens_total{{{here}}} == 0"))
    window = "1h"
    before = counters()
    for topic in TOPICS:
        ask(server, heldout_prompts(topic), bypass_prefix_cache=True)
        counted = server.scraped_expert_tokens()
        prometheus.await_true(lambda: counters() == counted)
        tokens_by_topic[topic] = {key: tokens - before[key] for key, tokens in counted.items()}
        before = counted
    # What repeats itself is found in the prefix cache.
    for _ in range(2):
        ask(server, heldout_prompts(TOPICS[0])[:4], bypass_prefix_cache=False)
    counted = server.scraped_expert_tokens()
    prometheus.await_true(lambda: counters() == counted)
    # Rates need more than one scrape, and the rules one after which nothing has changed.
    enough = prometheus.scrapes() + 5
    prometheus.await_true(lambda: prometheus.scrapes() >= enough)
    asked_at = time.time()
    prometheus.await_true(lambda: prometheus.rules_evaluated_since(asked_at))
    evaluated_at = time.time()
    window = f"{math.ceil(evaluated_at - started) + 5}s"


def tearDownModule():
    exit_codes = [started.stop() for started in (prometheus, server) if started is not None]
    if any(exit_codes):
        raise AssertionError(f"exit codes {exit_codes}")


class PrometheusTest(unittest.TestCase):
    maxDiff = None

    def ask(self, expression):
        try:
            return prometheus.query(expression, evaluated_at)
        except ValueError as error:
            self.fail(f"{error}: {expression}")

    def test_every_expression_of_the_dashboards_has_an_answer(self):
        for dashboard in dashboards():
            for panel, target, expression in expressions(dashboard):
                with self.subTest(dashboard["uid"], panel=panel["title"], target=target["refId"]):
                    self.assertNotIn("$", expression)
                    self.assertTrue(has_numbers(self.ask(expression)), expression)

    def test_every_recorded_series_has_an_answer(self):
        for name, expression in rules("record"):
            with self.subTest(name):
                self.assertTrue(has_numbers(self.ask(expression)), expression)
                self.assertTrue(has_numbers(self.ask(name)), name)

    def test_alerts_have_an_answer_only_where_something_is_wrong(self):
        for name, expression in rules("alert"):
            with self.subTest(name, legitimately_empty=EMPTY_ALERTS.get(name)):
                self.assertEqual(self.ask(expression) == [], name in EMPTY_ALERTS)
        self.assertLessEqual(EMPTY_ALERTS.keys(), {name for name, _ in rules("alert")})

    def test_alerts_compare_what_is_there(self):
        for name, expression in rules("alert"):
            compared = re.sub(r"\s(>=|<=|==|>|<)\s", r" \1 bool ", expression)
            with self.subTest(name, legitimately_empty=EMPTY_COMPARISONS.get(name)):
                self.assertEqual(self.ask(compared) == [], name in EMPTY_COMPARISONS, compared)
        self.assertLessEqual(EMPTY_COMPARISONS.keys(), {name for name, _ in rules("alert")})

    def test_the_hottest_experts_and_the_others_are_the_layer(self):
        values = lambda expression: sorted(float(sample["value"][1]) for sample in self.ask(expression))
        panel = expressions_of("Share of the hottest experts in layer $layer")
        every = values(panel["A"])
        self.assertEqual(len(every), 8)
        # There are not more than it shows: so let it show fewer.
        for shown in (8, 3):
            hottest, (others,) = (values(panel[name].replace("topk(16, ", f"topk({shown}, ")) for name in "AB")
            self.assertEqual(hottest, every[-shown:])
            self.assertAlmostEqual(others, sum(every[:-shown]))

    def test_expert_shares_are_those_of_the_topic(self):
        with open(DEMO / "evaluation.json", encoding="utf-8") as file:
            measured = json.load(file)["shares"]
        for topic, tokens in tokens_by_topic.items():
            layers = range(len(measured[topic]))
            shares = [
                [tokens[layer, expert] / sum(tokens[layer, e] for e in range(8)) for expert in range(8)]
                for layer in layers
            ]
            # Mean over the layers of the total-variation distance: 0 is the same, 1 is disjoint.
            distance = {
                name: sum(abs(a - b) for l in layers for a, b in zip(shares[l], expected[l])) / 2 / len(layers)
                for name, expected in measured.items()
            }
            with self.subTest(topic, distance=distance):
                self.assertEqual(min(distance, key=distance.get), topic)
                # 200 other prompts were measured; the nearest other topic is several times as far.
                self.assertLess(distance[topic], 0.1)

    def test_answers_of_the_panels_with_transformations_are_handed_over(self):
        answers = {}
        for dashboard in dashboards():
            for choice, chosen in (("all", {}), ("one", {"instance": server.metrics_address})):
                for panel, target, expression in expressions(dashboard, **chosen):
                    if "transformations" in panel:
                        key = f"{dashboard['uid']}/{panel['id']}"
                        answers.setdefault(key, {}).setdefault(choice, {})[target["refId"]] = self.ask(expression)
        self.assertTrue(answers)
        # dashboards_test compares with the counters: of the server's own page, without Prometheus.
        experts = [
            {"layer": layer, "expert": expert, "tokens": tokens}
            for (layer, expert), tokens in server.scraped_expert_tokens().items()
        ]
        with open(os.environ["SLUICE_ANSWERS"], "w", encoding="utf-8") as file:
            json.dump({"answers": answers, "experts": experts}, file, indent=1)


if __name__ == "__main__":
    unittest.main()
