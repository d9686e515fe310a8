"""The bundled model over gRPC against models/demo/golden.json: greedy texts and the tokens that each expert received.

The goldens were computed in float32 from the bfloat16 weights, so the server runs on f32 here.
"""

import json
import unittest

import sluice_server
from sluice_server import control_pb2, generation_pb2

server = None
cases = None


def setUpModule():
    global server, cases
    with open(sluice_server.SOURCE_DIR / "models/demo/golden.json", encoding="utf-8") as file:
        cases = json.load(file)["cases"]
    server = sluice_server.SluiceServer("--weights=f32")


def tearDownModule():
    exit_code = server.stop()
    if exit_code != 0:
        raise AssertionError(f"the server ended with {exit_code}:\n{''.join(server.log[-30:])}")


def request_of(case):
    request = generation_pb2.GenerateRequest()
    for message in case["messages"]:
        request.chat.messages.add(**message)
    request.sampling.temperature = 0
    # The goldens count every token of the prompt; one found in the cache passes no expert.
    request.bypass_prefix_cache = True
    return request


def fed_tokens(case):
    """The last token of an answer is sampled but not fed back, so no expert sees it."""
    return {
        (layer, expert): tokens
        for layer, row in enumerate(case["expert_tokens_fed"])
        for expert, tokens in enumerate(row)
    }


def minus(after, before):
    return {key: after[key] - before[key] for key in after}


def counts():
    """From both places where they can be had: they are the same numbers."""
    return server.expert_tokens(), server.scraped_expert_tokens()


def steps():
    return server.control.GetLoad(control_pb2.GetLoadRequest()).steps


class DemoGoldenTest(unittest.TestCase):
    maxDiff = None

    def check_answer(self, case, events):
        events = list(events)
        self.assertEqual("".join(event.delta.text for event in events), case["completion"])
        self.assertEqual([id for event in events for id in event.delta.token_ids], case["completion_ids"])
        self.assertEqual(events[0].started.prompt_tokens, len(case["prompt_ids"]))
        reason = generation_pb2.FinishReason.Name(events[-1].finished.reason)
        self.assertEqual(reason, "FINISH_REASON_" + case["finish_reason"].upper())

    def check_counts(self, before, expected):
        after = counts()
        self.assertEqual(minus(after[0], before[0]), expected)
        self.assertEqual(minus(after[1], before[1]), expected)
        self.assertEqual(after[0], after[1])

    def test_there_are_24_cases(self):
        self.assertEqual(len(cases), 24)

    def test_prompts_are_rendered_and_tokenized_as_in_training(self):
        for case in cases:
            with self.subTest(case["prompt"]):
                response = server.generation.Tokenize(generation_pb2.TokenizeRequest(chat=request_of(case).chat))
                self.assertEqual(response.rendered_prompt, case["prompt"])
                self.assertEqual(list(response.token_ids), case["prompt_ids"])

    def test_one_at_a_time_and_all_at_once(self):
        steps_before = steps()
        for case in cases:
            with self.subTest(case["prompt"]):
                before = counts()
                self.check_answer(case, server.generation.Generate(request_of(case)))
                self.check_counts(before, fed_tokens(case))
        steps_alone = steps() - steps_before

        before = counts()
        steps_before = steps()
        calls = [server.generation.Generate(request_of(case)) for case in cases]
        for case, call in zip(cases, calls):
            with self.subTest(case["prompt"]):
                self.check_answer(case, call)
        total = {}
        for case in cases:
            for key, tokens in fed_tokens(case).items():
                total[key] = total.get(key, 0) + tokens
        self.check_counts(before, total)
        # Had the requests not shared steps, there would be as many as before.
        self.assertLess(steps() - steps_before, steps_alone / 2)


if __name__ == "__main__":
    unittest.main()
