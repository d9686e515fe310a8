"""A client that shares no code with the server: Python, with stubs made from the .proto files.

It checks what a stranger relies on: that the services can be discovered, that streams have the promised order, that
cancelled and expired calls free what they held, and that no bad input does more than get its own error.
"""

import dataclasses
import math
import typing
import unittest

import grpc
from google.protobuf import descriptor_pb2

import sluice_server
from sluice_server import control_pb2, generation_pb2, health_pb2, reflection_pb2, reflection_pb2_grpc

GENERATE = "/sluice.v1.Generation/Generate"
# More than a test reads before it ends the call, less than the demo model's context.
LONG_ANSWER_TOKENS = 900

server = None


def setUpModule():
    global server
    server = sluice_server.SluiceServer()


def tearDownModule():
    exit_code = server.stop()
    if exit_code != 0:
        raise AssertionError(f"the server ended with {exit_code}:\n{''.join(server.log[-30:])}")


def chat_request(content="What is the capital of France?"):
    request = generation_pb2.GenerateRequest()
    request.chat.messages.add(role="user", content=content)
    request.sampling.temperature = 0
    return request


def text_request(text="Once there was"):
    return generation_pb2.GenerateRequest(text=text)


def long_request(request_id=None):
    request = chat_request("Tell me a story about a fox and a river.")
    request.stopping.max_tokens = LONG_ANSWER_TOKENS
    request.stopping.ignore_eos = True
    if request_id is not None:
        request.request_id = request_id
    return request


def short_request():
    request = chat_request()
    request.stopping.max_tokens = 1
    return request


def probe_request():
    """What a server in good health answers always the same, and soon."""
    request = chat_request()
    request.stopping.max_tokens = 6
    return request


def answer_of(request):
    """The events of a call that succeeds, and its text."""
    events = list(server.generation.Generate(request))
    return events, "".join(event.delta.text for event in events)


def load():
    return server.control.GetLoad(control_pb2.GetLoadRequest())


class ForeignClientTest(unittest.TestCase):
    def wait_until_idle(self):
        """Returns how many tokens it had generated meanwhile.

        Each try waits for a request of its own to pass through the engine, whose next step frees what has ended.
        """
        for tries in range(1, 201):
            answer_of(short_request())
            now = load()
            if now.running_requests == 0 and now.waiting_requests == 0 and now.free_kv_blocks == now.total_kv_blocks:
                return tries
        self.fail(f"not idle:\n{now}")

    def read_until_delta(self, call):
        for event in call:
            if event.WhichOneof("event") == "delta":
                return
        self.fail("the stream ended before a delta came")

    def read_to_error(self, call):
        with self.assertRaises(grpc.RpcError) as raised:
            for _ in call:
                pass
        return raised.exception


class DiscoveryTest(ForeignClientTest):
    def ask(self, **query):
        stub = reflection_pb2_grpc.ServerReflectionStub(server.channel)
        (answer,) = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**query)]))
        return answer

    def test_reflection_lists_the_services(self):
        answer = self.ask(list_services="*")
        names = {service.name for service in answer.list_services_response.service}
        expected = {
            "sluice.v1.Generation",
            "sluice.v1.Control",
            "inference.GRPCInferenceService",
            "grpc.health.v1.Health",
        }
        self.assertLessEqual(expected, names)

    def test_reflection_describes_the_services(self):
        expected = {
            "sluice.v1.Generation": {"Generate", "Tokenize", "Detokenize"},
            "sluice.v1.Control": {"GetServerInfo", "GetModelInfo", "GetLoad", "GetExpertLoad", "Abort"},
            "grpc.health.v1.Health": {"Check", "Watch"},
        }
        for service, methods in expected.items():
            answer = self.ask(file_containing_symbol=service)
            self.assertEqual(answer.WhichOneof("message_response"), "file_descriptor_response", answer)
            files = [
                descriptor_pb2.FileDescriptorProto.FromString(file)
                for file in answer.file_descriptor_response.file_descriptor_proto
            ]
            found = {
                f"{file.package}.{described.name}": {method.name for method in described.method}
                for file in files
                for described in file.service
            }
            self.assertLessEqual(methods, found[service])

    def test_health_knows_the_services(self):
        for service in ("", "sluice.v1.Generation", "sluice.v1.Control", "inference.GRPCInferenceService"):
            response = server.health.Check(health_pb2.HealthCheckRequest(service=service))
            self.assertEqual(response.status, health_pb2.HealthCheckResponse.SERVING, service)
        with self.assertRaises(grpc.RpcError) as raised:
            server.health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_the_server_says_what_it_is(self):
        info = server.control.GetServerInfo(control_pb2.GetServerInfoRequest())
        self.assertTrue(info.ready)
        self.assertTrue(info.version)
        model = server.control.GetModelInfo(control_pb2.GetModelInfoRequest())
        self.assertEqual((model.num_layers, model.num_experts, model.num_experts_per_token), (6, 8, 2))
        self.assertEqual((model.vocab_size, model.max_context_tokens), (2048, 1024))
        self.assertEqual(list(model.moe_layers), list(range(6)))
        self.assertEqual(list(model.eos_token_ids), [1])
        self.assertTrue(model.chat, model.chat_unavailable_reason)


class StreamTest(ForeignClientTest):
    def test_a_stream_is_started_deltas_finished(self):
        request = chat_request()
        request.request_id = "foreign-1"
        events, text = answer_of(request)
        kinds = [event.WhichOneof("event") for event in events]
        self.assertGreaterEqual(len(kinds), 3)
        self.assertEqual(kinds, ["started"] + ["delta"] * (len(kinds) - 2) + ["finished"])
        self.assertIn("Paris", text)

        started, finished = events[0].started, events[-1].finished
        token_ids = [id for event in events for id in event.delta.token_ids]
        self.assertEqual(started.request_id, "foreign-1")
        self.assertEqual(finished.reason, generation_pb2.FINISH_REASON_STOP)
        self.assertEqual(finished.stop_token_id, 1)
        self.assertEqual(token_ids[-1], 1)
        self.assertEqual(finished.usage.generated_tokens, len(token_ids))
        self.assertEqual(finished.usage.prompt_tokens, started.prompt_tokens)

        # The text is that of the tokens, and the prompt is what the tokenizer says it is.
        detokenized = server.generation.Detokenize(generation_pb2.DetokenizeRequest(token_ids=token_ids))
        self.assertEqual(detokenized.text, text)
        tokenized = server.generation.Tokenize(generation_pb2.TokenizeRequest(chat=request.chat))
        self.assertEqual(len(tokenized.token_ids), started.prompt_tokens)
        again = generation_pb2.GenerateRequest(sampling=request.sampling)
        again.token_ids.ids.extend(tokenized.token_ids)
        self.assertEqual(answer_of(again)[1], text)

    def test_max_tokens_and_stop_strings_end_an_answer(self):
        _, whole = answer_of(chat_request())
        request = chat_request()
        request.stopping.max_tokens = 3
        events, text = answer_of(request)
        self.assertEqual(events[-1].finished.reason, generation_pb2.FINISH_REASON_LENGTH)
        self.assertEqual(events[-1].finished.usage.generated_tokens, 3)
        self.assertTrue(whole.startswith(text))

        request = chat_request()
        request.stopping.stop_strings.append("Paris")
        events, text = answer_of(request)
        self.assertEqual(events[-1].finished.stop_string, "Paris")
        self.assertEqual(text, whole[: whole.index("Paris")])

    def test_a_seed_makes_sampling_repeatable(self):
        request = chat_request("Tell me a story about a fox and a river.")
        request.sampling.temperature = 1.5
        request.sampling.seed = 7
        request.stopping.max_tokens = 40
        answers = {answer_of(request)[1] for _ in range(3)}
        self.assertEqual(len(answers), 1)
        request.sampling.seed = 8
        self.assertNotIn(answer_of(request)[1], answers)

    def test_logprobs_are_of_the_tokens(self):
        request = chat_request()
        request.response.logprobs = 3
        request.response.prompt_logprobs = 0
        events, _ = answer_of(request)
        self.assertEqual(events[1].WhichOneof("event"), "prompt_logprobs")
        self.assertEqual(len(events[1].prompt_logprobs.logprobs), events[0].started.prompt_tokens - 1)
        for event in events:
            self.assertEqual([entry.token_id for entry in event.delta.logprobs], list(event.delta.token_ids))
            for entry in event.delta.logprobs:
                self.assertEqual(len(entry.top), 3)
                # Greedy: the chosen token is the most probable one.
                self.assertEqual(entry.top[0].token_id, entry.token_id)
                self.assertLessEqual(sum(math.exp(top.logprob) for top in entry.top), 1 + 1e-4)


class EndingTest(ForeignClientTest):
    def setUp(self):
        self.wait_until_idle()
        self.before = load().generated_tokens

    def check_freed_early(self):
        own_tokens = self.wait_until_idle()
        self.assertLess(load().generated_tokens - self.before - own_tokens, LONG_ANSWER_TOKENS)

    def test_cancelling_frees_the_request(self):
        call = server.generation.Generate(long_request())
        self.read_until_delta(call)
        call.cancel()
        self.assertEqual(self.read_to_error(call).code(), grpc.StatusCode.CANCELLED)
        self.check_freed_early()

    def test_a_deadline_frees_the_request(self):
        call = server.generation.Generate(long_request(), timeout=0.05)
        self.assertEqual(self.read_to_error(call).code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.check_freed_early()

    def test_a_lost_connection_frees_the_request(self):
        with grpc.insecure_channel(
            server.grpc_address, options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = sluice_server.generation_pb2_grpc.GenerationStub(channel).Generate(long_request())
            self.read_until_delta(call)
        self.check_freed_early()

    def test_abort_ends_the_request_of_another_client(self):
        call = server.generation.Generate(long_request("doomed"))
        self.read_until_delta(call)
        server.control.Abort(control_pb2.AbortRequest(request_id="doomed"))
        self.assertEqual(self.read_to_error(call).code(), grpc.StatusCode.CANCELLED)
        self.check_freed_early()
        with self.assertRaises(grpc.RpcError) as raised:
            server.control.Abort(control_pb2.AbortRequest(request_id="doomed"))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_a_running_id_cannot_be_taken(self):
        call = server.generation.Generate(long_request("taken"))
        self.read_until_delta(call)
        error = self.read_to_error(server.generation.Generate(long_request("taken")))
        self.assertEqual(error.code(), grpc.StatusCode.ALREADY_EXISTS)
        call.cancel()
        self.check_freed_early()


@dataclasses.dataclass
class BadInput:
    name: str
    # A request, or the bytes to send in its place.
    request: typing.Any
    # The field at fault; elements of repeated fields may be named with their index.
    field: typing.Optional[str] = None
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT
    method: str = GENERATE


def with_sampling(**values):
    request = text_request()
    for name, value in values.items():
        setattr(request.sampling, name, value)
    return request


def with_stopping(**values):
    request = text_request()
    for name, value in values.items():
        if isinstance(value, list):
            getattr(request.stopping, name).extend(value)
        else:
            setattr(request.stopping, name, value)
    return request


def with_response(**values):
    request = text_request()
    for name, value in values.items():
        setattr(request.response, name, value)
    return request


def with_ids(*ids):
    request = generation_pb2.GenerateRequest()
    request.token_ids.ids.extend(ids)
    return request


def field_bytes(number, payload):
    """A length-delimited field as it is on the wire; short payloads only."""
    return bytes([number << 3 | 2, len(payload)]) + payload


def bad_inputs():
    empty_chat = generation_pb2.GenerateRequest()
    empty_chat.chat.SetInParent()
    empty_ids = generation_pb2.GenerateRequest()
    empty_ids.token_ids.SetInParent()
    no_room = text_request()
    no_room.stopping.max_tokens = 1024
    other_model = text_request()
    other_model.model = "gpt-5"
    long_id = text_request()
    long_id.request_id = "x" * 129
    ugly_id = text_request()
    ugly_id.request_id = "a\nb"
    not_utf8 = b"ab\xff\xfe"
    infinity = float("inf")
    return [
        BadInput("NaN temperature", with_sampling(temperature=float("nan")), "sampling.temperature"),
        BadInput("infinite temperature", with_sampling(temperature=infinity), "sampling.temperature"),
        BadInput("minus infinite temperature", with_sampling(temperature=-infinity), "sampling.temperature"),
        BadInput("negative temperature", with_sampling(temperature=-0.5), "sampling.temperature"),
        BadInput("hot temperature", with_sampling(temperature=100.5), "sampling.temperature"),
        BadInput("negative top_k", with_sampling(top_k=-1), "sampling.top_k"),
        BadInput("zero top_p", with_sampling(top_p=0), "sampling.top_p"),
        BadInput("top_p of 2", with_sampling(top_p=2), "sampling.top_p"),
        BadInput("NaN top_p", with_sampling(top_p=float("nan")), "sampling.top_p"),
        BadInput("min_p of 2", with_sampling(min_p=2), "sampling.min_p"),
        BadInput("NaN min_p", with_sampling(min_p=float("nan")), "sampling.min_p"),
        BadInput("negative max_tokens", with_stopping(max_tokens=-1), "stopping.max_tokens"),
        BadInput("zero max_tokens", with_stopping(max_tokens=0), "stopping.max_tokens"),
        BadInput("largest max_tokens", with_stopping(max_tokens=2**31 - 1), "stopping.max_tokens"),
        BadInput("max_tokens beyond the context", no_room, "stopping.max_tokens"),
        BadInput("too many stop strings", with_stopping(stop_strings=["x"] * 17), "stopping.stop_strings"),
        BadInput("an empty stop string", with_stopping(stop_strings=["x", ""]), "stopping.stop_strings"),
        BadInput("a long stop string", with_stopping(stop_strings=["x" * 257]), "stopping.stop_strings"),
        BadInput("too many stop tokens", with_stopping(stop_token_ids=[5] * 65), "stopping.stop_token_ids"),
        BadInput("an unknown stop token", with_stopping(stop_token_ids=[2048]), "stopping.stop_token_ids"),
        BadInput("negative logprobs", with_response(logprobs=-1), "response.logprobs"),
        BadInput("too many logprobs", with_response(logprobs=21), "response.logprobs"),
        BadInput("too many prompt_logprobs", with_response(prompt_logprobs=21), "response.prompt_logprobs"),
        BadInput("a token beyond the vocabulary", with_ids(5, 2048), "token_ids.ids"),
        BadInput("the largest token", with_ids(2**31 - 1), "token_ids.ids"),
        BadInput("a negative token", with_ids(5, 6, -1), "token_ids.ids"),
        BadInput("no tokens", empty_ids, "token_ids"),
        BadInput("too many tokens", with_ids(*[5] * 1024), "token_ids"),
        BadInput("a million tokens", with_ids(*[5] * 1_000_000), "token_ids"),
        BadInput("an empty text", text_request(""), "text"),
        BadInput("3 MiB of text", text_request("word " * (3 * 2**20 // 5)), "text"),
        BadInput("5 MiB of text", text_request("x" * (5 * 2**20)), code=grpc.StatusCode.RESOURCE_EXHAUSTED),
        BadInput("no prompt", generation_pb2.GenerateRequest(), "prompt"),
        BadInput("a chat without messages", empty_chat, "chat.messages"),
        BadInput("a long message", chat_request("word " * 5000), "chat"),
        BadInput("an unknown model", other_model, code=grpc.StatusCode.NOT_FOUND),
        BadInput("a long request id", long_id, "request_id"),
        BadInput("an unprintable request id", ugly_id, "request_id"),
        BadInput("text that is not UTF-8", field_bytes(3, not_utf8), "text"),
        BadInput("a message that is not UTF-8", field_bytes(5, field_bytes(1, field_bytes(2, not_utf8))), "chat"),
        BadInput("a stop string that is not UTF-8", field_bytes(9, b"") + field_bytes(8, field_bytes(3, not_utf8)),
                 "stopping.stop_strings"),
        BadInput("half a message", text_request("a longer text").SerializeToString()[:8]),
        BadInput("no message at all", b"\xff" * 64),
        BadInput("a deeply nested message", b"\x2b" * 100_000),
        BadInput("an unknown method", b"", code=grpc.StatusCode.UNIMPLEMENTED,
                 method="/sluice.v1.Generation/Degenerate"),
        BadInput("an unknown service", b"", code=grpc.StatusCode.UNIMPLEMENTED, method="/sluice.v1.Nothing/Generate"),
        BadInput("an unknown token to detokenize", generation_pb2.DetokenizeRequest(token_ids=[5, 2048]), "token_ids",
                 method="/sluice.v1.Generation/Detokenize"),
        BadInput("a negative token to detokenize", generation_pb2.DetokenizeRequest(token_ids=[-1]), "token_ids",
                 method="/sluice.v1.Generation/Detokenize"),
        BadInput("nothing to tokenize", generation_pb2.TokenizeRequest(), "input",
                 method="/sluice.v1.Generation/Tokenize"),
        BadInput("an unknown model to tokenize for", generation_pb2.TokenizeRequest(text="x", model="gpt-5"),
                 code=grpc.StatusCode.NOT_FOUND, method="/sluice.v1.Generation/Tokenize"),
        BadInput("no layer", control_pb2.GetExpertLoadRequest(layers=[6]), "layers",
                 method="/sluice.v1.Control/GetExpertLoad"),
        BadInput("a negative layer", control_pb2.GetExpertLoadRequest(layers=[-1]), "layers",
                 method="/sluice.v1.Control/GetExpertLoad"),
    ]


class BadInputTest(ForeignClientTest):
    def send(self, bad):
        """Every method is called as if it streamed: a single answer is a stream of one."""
        payload = bad.request if isinstance(bad.request, bytes) else bad.request.SerializeToString()
        method = server.channel.unary_stream(
            bad.method, request_serializer=lambda raw: raw, response_deserializer=lambda raw: raw
        )
        return method(payload)

    def test_bad_input_gets_its_error_and_nothing_else_happens(self):
        _, text = answer_of(probe_request())
        for bad in bad_inputs():
            with self.subTest(bad.name):
                error = self.read_to_error(self.send(bad))
                self.assertEqual(error.code(), bad.code, error.details())
                if bad.field is not None:
                    self.assertIn(bad.field, error.details())
                    (named,) = sluice_server.violated_fields(error)
                    self.assertRegex(named, rf"^{bad.field}($|\.|\[)")
                self.assertEqual(answer_of(probe_request())[1], text)
        self.wait_until_idle()
        self.assertTrue(server.is_running())

    def test_bad_input_among_good_requests_disturbs_none_of_them(self):
        _, text = answer_of(probe_request())
        good, bad_calls = [], []
        for bad in bad_inputs():
            good.append(server.generation.Generate(probe_request()))
            bad_calls.append((bad, self.send(bad)))
        for bad, call in bad_calls:
            self.assertEqual(self.read_to_error(call).code(), bad.code, bad.name)
        for call in good:
            self.assertEqual("".join(event.delta.text for event in call), text)
        self.wait_until_idle()


if __name__ == "__main__":
    unittest.main()
