"""Traffic on one topic after another moves the experts' load as models/demo/evaluation.json says.

evaluation.json has the share of each expert in the routed slots of 200 held-out conversations per topic, computed with
transformers in float32. Here other conversations of the same kind, those of heldout.jsonl, are held with a real server,
and the shares come from the differences of /experts.json, as the built-in page computes them.

Tolerance of each share: five standard errors of the difference between two samples, plus what the last token of an
answer may change, which the evaluation counts and which no expert of a server sees. The standard error is taken from
the conversations, whose tokens belong together, and is at least that of slots that are drawn one by one.
"""

import json
import math
import unittest

import page_client
import sluice_server
from sluice_server import generation_pb2

STANDARD_ERRORS = 5
EVALUATED = 200  # conversations of each topic


def rows():
    """Tokens so far, [layer][expert]."""
    return [layer["tokens"] for layer in page_client.experts(server)["layers"]]


def converse(prompt):
    """Holds one conversation; the tokens that it sent to each expert, [layer][expert]."""
    request = generation_pb2.GenerateRequest(bypass_prefix_cache=True)
    request.chat.messages.add(role="user", content=prompt)
    request.sampling.temperature = 0
    request.stopping.max_tokens = 200
    before = rows()
    for _ in server.generation.Generate(request):
        pass
    return [[b - a for a, b in zip(*pair)] for pair in zip(before, rows())]


class Sample:
    """One expert's part in the conversations of a topic."""

    def __init__(self, counts, slots):
        self.share = sum(counts) / sum(slots)
        number = len(counts)
        square = sum((count - self.share * slot) ** 2 for count, slot in zip(counts, slots))
        variance = square / sum(slots) ** 2 * number / (number - 1)
        self.number = number
        self.slots = sum(slots)
        self.variance = variance
        self.last_token = 1 / (sum(slots) / number)

    def tolerance(self, expected):
        alone = max(expected, 1 / self.slots) / self.slots
        variance = max(self.variance, alone) * (1 + self.number / EVALUATED)
        return STANDARD_ERRORS * math.sqrt(variance) + self.last_token


def samples_of(conversations):
    """[layer][expert]"""
    return [
        [
            Sample([c[layer][expert] for c in conversations], [sum(c[layer]) for c in conversations])
            for expert in range(len(conversations[0][layer]))
        ]
        for layer in range(len(conversations[0]))
    ]


def setUpModule():
    global server
    # As the evaluation computed them.
    server = sluice_server.SluiceServer("--weights=f32")


def tearDownModule():
    exit_code = server.stop()
    if exit_code != 0:
        raise AssertionError(f"the server ended with {exit_code}:\n{''.join(server.log[-30:])}")


class TopicsTest(unittest.TestCase):
    def test_shares_follow_the_topic(self):
        with open(sluice_server.SOURCE_DIR / "models/demo/evaluation.json", encoding="utf-8") as file:
            expected = json.load(file)["shares"]
        with open(sluice_server.SOURCE_DIR / "models/demo/heldout.jsonl", encoding="utf-8") as file:
            prompts = [json.loads(line) for line in file]
        measured = {}
        for topic, shares in expected.items():
            conversations = [converse(item["prompt"]) for item in prompts if item["topic"] == topic]
            measured[topic] = samples_of(conversations)
            for layer, row in enumerate(measured[topic]):
                for expert, sample in enumerate(row):
                    with self.subTest(topic=topic, layer=layer, expert=expert):
                        share = shares[layer][expert]
                        self.assertAlmostEqual(sample.share, share, delta=sample.tolerance(share))
        # From each topic to the next, every layer's load moves by more than the tolerances: its total-variation
        # distance, half the sum of what the shares change.
        topics = list(expected)
        for topic, following in zip(topics, topics[1:]):
            for layer, (old, new) in enumerate(zip(measured[topic], measured[following])):
                with self.subTest(topic=topic, following=following, layer=layer):
                    moved = sum(abs(a.share - b.share) for a, b in zip(old, new)) / 2
                    tolerance = max(sample.tolerance(sample.share) for sample in old + new)
                    self.assertGreater(moved, tolerance)


server = None

if __name__ == "__main__":
    unittest.main()
