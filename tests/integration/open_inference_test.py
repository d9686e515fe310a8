"""A client of other inference servers: it knows the Open Inference Protocol as published, and nothing of this server.

Requests are made as Triton's clients make them (raw contents, ids that repeat, parameters as text), and as KServe's do
(typed contents). What is expected of the answers comes from the server's own service, called beside it.
"""

import json
import os
import queue
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import grpc

import sluice_server
from sluice_server import control_pb2, generation_pb2

MODEL = "demo"
PROMPT = "Once there was"
# More than a test reads before it ends the call, less than the demo model's context.
LONG_ANSWER_TOKENS = 900

server = None
stub = None
pb2 = None


def make_stubs():
    """From the test's own copy of the protocol, in a process-wide folder."""
    folder = tempfile.mkdtemp(prefix="open_inference_stubs_")
    try:
        source = sluice_server.SOURCE_DIR / "tests/integration"
        subprocess.run(
            [
                os.environ["SLUICE_PROTOC"],
                f"-I{source}",
                f"--python_out={folder}",
                f"--grpc_python_out={folder}",
                f"--plugin=protoc-gen-grpc_python={os.environ['SLUICE_GRPC_PYTHON_PLUGIN']}",
                "open_inference.proto",
            ],
            check=True,
        )
        sys.path.insert(0, folder)
        import open_inference_pb2  # pylint: disable=import-outside-toplevel
        import open_inference_pb2_grpc  # pylint: disable=import-outside-toplevel
    finally:
        shutil.rmtree(folder)
    return open_inference_pb2, open_inference_pb2_grpc


def setUpModule():
    global server, stub, pb2
    pb2, pb2_grpc = make_stubs()
    server = sluice_server.SluiceServer(f"--model_name={MODEL}")
    stub = pb2_grpc.GRPCInferenceServiceStub(server.channel)


def tearDownModule():
    exit_code = server.stop()
    if exit_code != 0:
        raise AssertionError(f"the server ended with {exit_code}:\n{''.join(server.log[-30:])}")


def raw_bytes(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<I", len(data)) + data


def make_request(text=PROMPT, sampling=None, stream=None, exclude=True, request_id="", raw=True, shape=(1,)):
    """As tritonclient fills it in (raw), or with typed contents."""
    request = pb2.ModelInferRequest(model_name=MODEL, id=request_id)
    request.outputs.add(name="text_output")

    def add(name, datatype, value):
        tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
        if raw:
            data = struct.pack("?", value) if datatype == "BOOL" else raw_bytes(value)
            request.raw_input_contents.append(data)
        elif datatype == "BOOL":
            tensor.contents.bool_contents.append(value)
        else:
            tensor.contents.bytes_contents.append(value.encode())

    add("text_input", "BYTES", text)
    if stream is not None:
        add("stream", "BOOL", stream)
    add("sampling_parameters", "BYTES", json.dumps({"temperature": "0", "max_tokens": "12", **(sampling or {})}))
    if exclude is not None:
        add("exclude_input_in_output", "BOOL", exclude)
    return request


def long_request(**values):
    return make_request(sampling={"max_tokens": LONG_ANSWER_TOKENS, "ignore_eos": True}, stream=True, **values)


def text_of(response):
    """Of a response with an output, in whichever form it is."""
    (output,) = response.outputs
    assert output.name == "text_output" and output.datatype == "BYTES", output
    if not response.raw_output_contents:
        (element,) = output.contents.bytes_contents
        return element.decode()
    assert not output.HasField("contents"), output
    (data,) = response.raw_output_contents
    (length,) = struct.unpack_from("<I", data)
    assert len(data) == 4 + length, data
    return data[4:].decode()


def is_final(response):
    return response.parameters["triton_final_response"].bool_param


def own_answer(text=PROMPT, max_tokens=12, stop=(), seed=None, temperature=0.0):
    """What the server's own service says."""
    request = generation_pb2.GenerateRequest(text=text)
    request.sampling.temperature = temperature
    if seed is not None:
        request.sampling.seed = seed
    request.stopping.max_tokens = max_tokens
    request.stopping.stop_strings.extend(stop)
    return "".join(event.delta.text for event in server.generation.Generate(request))


def load():
    return server.control.GetLoad(control_pb2.GetLoadRequest())


class Stream:
    """A stream that is written to while it is read."""

    def __init__(self, **call):
        self._requests = queue.Queue()
        self.call = stub.ModelStreamInfer(iter(self._requests.get, None), **call)

    def send(self, *requests):
        for request in requests:
            self._requests.put(request)

    def close(self):
        self._requests.put(None)

    def read_answers(self, count):
        """{id: (texts, errors)} once that many requests have had their last response."""
        answers = {}
        while count > 0:
            response = next(self.call)
            infer = response.infer_response
            texts, errors = answers.setdefault(infer.id, ([], []))
            if response.error_message:
                errors.append(response.error_message)
            else:
                texts.append(text_of(infer) if infer.outputs else None)
            count -= is_final(infer)
        return answers


class OpenInferenceTest(unittest.TestCase):
    def wait_until_idle(self):
        """Each try waits for a request of its own to pass through the engine, whose next step frees what has ended."""
        for tries in range(1, 201):
            own_answer(max_tokens=1)
            now = load()
            if now.running_requests == 0 and now.waiting_requests == 0 and now.free_kv_blocks == now.total_kv_blocks:
                return tries
        return self.fail(f"not idle:\n{now}")

    def check_error(self, call, code, word):
        with self.assertRaises(grpc.RpcError) as raised:
            call()
        self.assertEqual(raised.exception.code(), code, raised.exception.details())
        self.assertIn(word, raised.exception.details())


class MetadataTest(OpenInferenceTest):
    def test_the_server_is_live_and_ready(self):
        self.assertTrue(stub.ServerLive(pb2.ServerLiveRequest()).live)
        self.assertTrue(stub.ServerReady(pb2.ServerReadyRequest()).ready)
        self.assertTrue(stub.ModelReady(pb2.ModelReadyRequest(name=MODEL)).ready)
        self.assertTrue(stub.ModelReady(pb2.ModelReadyRequest(name=MODEL, version="1")).ready)
        self.assertFalse(stub.ModelReady(pb2.ModelReadyRequest(name=MODEL, version="2")).ready)
        self.assertFalse(stub.ModelReady(pb2.ModelReadyRequest(name="gpt-5")).ready)

    def test_the_server_and_the_model_say_what_they_are(self):
        metadata = stub.ServerMetadata(pb2.ServerMetadataRequest())
        self.assertEqual(metadata.name, "sluice")
        self.assertTrue(metadata.version)
        model = stub.ModelMetadata(pb2.ModelMetadataRequest(name=MODEL))
        self.assertEqual((model.name, list(model.versions)), (MODEL, ["1"]))
        self.assertTrue(model.platform)
        self.assertEqual(
            {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in model.inputs},
            {
                "text_input": ("BYTES", [1]),
                "stream": ("BOOL", [1]),
                "sampling_parameters": ("BYTES", [1]),
                "exclude_input_in_output": ("BOOL", [1]),
            },
        )
        self.assertEqual([(tensor.name, tensor.datatype) for tensor in model.outputs], [("text_output", "BYTES")])
        self.check_error(
            lambda: stub.ModelMetadata(pb2.ModelMetadataRequest(name="gpt-5")), grpc.StatusCode.NOT_FOUND, "gpt-5"
        )

    def test_methods_of_triton_that_are_not_served_are_unimplemented(self):
        self.check_error(
            lambda: stub.RepositoryIndex(pb2.RepositoryIndexRequest()), grpc.StatusCode.UNIMPLEMENTED, ""
        )


class InferTest(OpenInferenceTest):
    def test_the_answer_is_that_of_the_own_service(self):
        expected = own_answer()
        for raw in (True, False):
            for shape in ((1,), (1, 1)):
                with self.subTest(raw=raw, shape=shape):
                    response = stub.ModelInfer(make_request(raw=raw, shape=shape, request_id="7"))
                    self.assertEqual(text_of(response), expected)
                    self.assertEqual(bool(response.raw_output_contents), raw)
                    self.assertEqual(tuple(response.outputs[0].shape), shape)
                    self.assertEqual((response.id, response.model_name, response.model_version), ("7", MODEL, "1"))

    def test_sampling_parameters_are_followed(self):
        expected = own_answer(max_tokens=30, seed=5, temperature=1.5)
        sampling = {"max_tokens": 30, "seed": 5, "temperature": "1.5", "n": 1, "top_k": -1, "min_p": None}
        self.assertEqual(text_of(stub.ModelInfer(make_request(sampling=sampling))), expected)
        stop = own_answer(max_tokens=30)[5:8]
        response = stub.ModelInfer(make_request(sampling={"max_tokens": 30, "stop": [stop]}))
        self.assertEqual(text_of(response), own_answer(max_tokens=30, stop=[stop]))

    def test_parameters_of_the_request_stand_in_for_the_tensor(self):
        request = make_request()
        del request.inputs[1], request.raw_input_contents[1]
        request.parameters["temperature"].string_param = "0"
        request.parameters["max_tokens"].int64_param = 5
        self.assertEqual(text_of(stub.ModelInfer(request)), own_answer(max_tokens=5))

    def test_the_prompt_is_part_of_the_answer_unless_excluded(self):
        expected = PROMPT + own_answer()
        for exclude in (None, False):
            self.assertEqual(text_of(stub.ModelInfer(make_request(exclude=exclude))), expected)

    def test_cancelling_frees_the_request(self):
        self.wait_until_idle()
        before = load().generated_tokens
        request = make_request(sampling={"max_tokens": LONG_ANSWER_TOKENS, "ignore_eos": True})
        call = stub.ModelInfer.future(request)
        while load().generated_tokens == before:
            pass
        call.cancel()
        own_tokens = self.wait_until_idle()
        self.assertLess(load().generated_tokens - before - own_tokens, LONG_ANSWER_TOKENS)


class StreamTest(OpenInferenceTest):
    def test_many_requests_are_answered_at_once(self):
        prompts = [PROMPT, "The fox", "A river", "What is", "In the morning", "They said"]
        expected = {str(i): own_answer(prompt) for i, prompt in enumerate(prompts)}
        stream = Stream()
        stream.send(
            *(
                make_request(prompt, stream=i % 2 == 0, exclude=True, request_id=str(i), raw=i % 3 != 0)
                for i, prompt in enumerate(prompts)
            )
        )
        answers = stream.read_answers(len(prompts))
        stream.close()
        self.assertEqual(list(stream.call), [])
        self.assertEqual({key: "".join(texts) for key, (texts, _) in answers.items()}, expected)
        for key, (texts, errors) in answers.items():
            self.assertEqual(errors, [])
            if int(key) % 2 == 1:
                self.assertEqual(len(texts), 1, "not streamed: one response")

    def test_requests_with_one_id_do_not_meet(self):
        streams = [Stream() for _ in range(3)]
        for stream in streams:
            stream.send(make_request(stream=True, request_id="0"), make_request(stream=True, request_id="0"))
            stream.close()
        for stream in streams:
            answers = stream.read_answers(2)
            self.assertEqual(answers["0"][1], [])
            self.assertEqual(len("".join(answers["0"][0])), 2 * len(own_answer()))

    def test_more_requests_than_may_be_open(self):
        stream = Stream()
        stream.send(*(make_request(stream=True, request_id=str(i), sampling={"max_tokens": 3}) for i in range(150)))
        stream.close()
        answers = stream.read_answers(150)
        self.assertEqual(list(stream.call), [])
        expected = own_answer(max_tokens=3)
        self.assertEqual({"".join(texts) for texts, _ in answers.values()}, {expected})

    def test_an_empty_final_response_comes_if_it_is_wanted(self):
        request = make_request(stream=True, request_id="e")
        request.parameters["triton_enable_empty_final_response"].bool_param = True
        stream = Stream()
        stream.send(request)
        texts, errors = stream.read_answers(1)["e"]
        self.assertEqual(errors, [])
        self.assertIsNone(texts[-1])
        self.assertEqual("".join(texts[:-1]), own_answer())
        stream.close()

    def test_an_error_ends_its_request_and_not_the_stream(self):
        stream = Stream()
        bad = make_request(sampling={"temperature": 200}, stream=True, request_id="bad")
        unknown = make_request(sampling={"beams": 2}, stream=True, request_id="unknown")
        stream.send(make_request(stream=True, request_id="1"), bad, unknown, make_request(stream=True, request_id="2"))
        stream.close()
        answers = stream.read_answers(4)
        self.assertEqual(list(stream.call), [])
        self.assertRegex(answers["bad"][1][0], "^INVALID_ARGUMENT: sampling_parameters.temperature: ")
        self.assertRegex(answers["unknown"][1][0], "^INVALID_ARGUMENT: sampling_parameters.beams: ")
        for key in ("1", "2"):
            self.assertEqual("".join(answers[key][0]), own_answer())

    def test_cancelling_in_mid_stream_frees_all_requests(self):
        self.wait_until_idle()
        before = load().generated_tokens
        stream = Stream()
        stream.send(*(long_request(request_id=str(i)) for i in range(4)))
        next(stream.call)
        stream.call.cancel()
        with self.assertRaises(grpc.RpcError) as raised:
            list(stream.call)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.CANCELLED)
        own_tokens = self.wait_until_idle()
        self.assertLess(load().generated_tokens - before - own_tokens, 4 * LONG_ANSWER_TOKENS)
        stream.close()

    def test_a_deadline_frees_all_requests(self):
        self.wait_until_idle()
        before = load().generated_tokens
        stream = Stream(timeout=0.05)
        stream.send(*(long_request(request_id=str(i)) for i in range(4)))
        with self.assertRaises(grpc.RpcError) as raised:
            list(stream.call)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        own_tokens = self.wait_until_idle()
        self.assertLess(load().generated_tokens - before - own_tokens, 4 * LONG_ANSWER_TOKENS)
        stream.close()


def bad_requests():
    """(what, request, word of the error, code)."""
    invalid = grpc.StatusCode.INVALID_ARGUMENT

    def changed(change, **values):
        request = make_request(**values)
        change(request)
        return request

    def set_raw(index, data):
        def change(request):
            request.raw_input_contents[index] = data

        return change

    def with_tensor(name, datatype):
        def change(request):
            request.inputs.add(name=name, datatype=datatype, shape=[1])
            request.raw_input_contents.append(raw_bytes("x"))

        return change

    return [
        ("nothing", pb2.ModelInferRequest(), "model_name", invalid),
        ("another model", changed(lambda r: setattr(r, "model_name", "gpt-5")), "gpt-5", grpc.StatusCode.NOT_FOUND),
        ("another version", changed(lambda r: setattr(r, "model_version", "3")), "model_version",
         grpc.StatusCode.NOT_FOUND),
        ("no text", changed(lambda r: (r.inputs.pop(0), r.raw_input_contents.pop(0))), "text_input", invalid),
        ("an unknown input", changed(with_tensor("image", "BYTES")), "image", invalid),
        ("an input twice", changed(with_tensor("text_input", "BYTES")), "text_input", invalid),
        ("a wrong datatype", changed(lambda r: setattr(r.inputs[0], "datatype", "INT32")), "text_input", invalid),
        ("a wrong shape", changed(lambda r: r.inputs[0].shape.append(2)), "text_input", invalid),
        ("no shape", changed(lambda r: r.inputs[0].ClearField("shape")), "text_input", invalid),
        ("both forms", changed(lambda r: r.inputs[0].contents.bytes_contents.append(b"x")), "text_input", invalid),
        ("no data", changed(lambda r: r.inputs[0].ClearField("contents"), raw=False), "text_input", invalid),
        ("data of another type", changed(lambda r: r.inputs[0].contents.int_contents.append(1), raw=False),
         "text_input", invalid),
        ("missing raw data", changed(lambda r: r.raw_input_contents.pop()), "raw_input_contents", invalid),
        ("truncated raw data", changed(set_raw(0, raw_bytes("hello")[:-1])), "text_input", invalid),
        ("a truncated length", changed(set_raw(0, b"\x05\x00")), "text_input", invalid),
        ("trailing raw data", changed(set_raw(0, raw_bytes("hello") + b"!")), "text_input", invalid),
        ("a length of 4 GiB", changed(set_raw(0, b"\xff\xff\xff\xffhello")), "text_input", invalid),
        ("text that is not UTF-8", changed(set_raw(0, raw_bytes(b"\xff\xfe"))), "text_input", invalid),
        ("an unknown output", changed(lambda r: setattr(r.outputs[0], "name", "logits")), "logits", invalid),
        ("no JSON", changed(set_raw(1, raw_bytes("{'temperature': 1}"))), "sampling_parameters", invalid),
        ("JSON of a list", changed(set_raw(1, raw_bytes("[]"))), "sampling_parameters", invalid),
        ("an unknown key", make_request(sampling={"use_beam_search": True}), "sampling_parameters.use_beam_search",
         invalid),
        ("a wrong type", make_request(sampling={"max_tokens": "many"}), "sampling_parameters.max_tokens", invalid),
        ("two answers", make_request(sampling={"n": 2}), "sampling_parameters.n", invalid),
        ("a value out of range", make_request(sampling={"top_p": 2}), "sampling_parameters.top_p", invalid),
        ("more than the context", make_request(sampling={"max_tokens": 100000}), "sampling_parameters.max_tokens",
         invalid),
        ("a prompt beyond the context", make_request(text="x" * 20000), "text_input", invalid),
        ("a long id", make_request(request_id="x" * 129), "id", invalid),
        ("a sequence", changed(lambda r: r.parameters["triton_sequence"].SetInParent()), "triton_sequence", invalid),
    ]


class BadInputTest(OpenInferenceTest):
    def test_bad_input_gets_its_error_and_nothing_else_happens(self):
        expected = own_answer()
        stream = Stream()
        for what, request, word, code in bad_requests():
            with self.subTest(what):
                self.check_error(lambda request=request: stub.ModelInfer(request), code, word)
                stream.send(request)
                response = next(stream.call)
                self.assertIn(word, response.error_message)
                self.assertTrue(response.error_message.startswith(code.name + ": "), response.error_message)
                self.assertTrue(is_final(response.infer_response))
                self.assertEqual(text_of(stub.ModelInfer(make_request())), expected)
        self.check_error(lambda: stub.ModelInfer(make_request(stream=True)), grpc.StatusCode.INVALID_ARGUMENT, "stream")
        stream.send(make_request(stream=True, request_id="good"))
        self.assertEqual("".join(stream.read_answers(1)["good"][0]), expected)
        stream.close()
        self.assertEqual(list(stream.call), [])
        self.wait_until_idle()

    def test_bytes_that_are_no_message(self):
        for payload in (b"\xff" * 64, b"\x2b" * 100_000):
            call = server.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            self.check_error(lambda: call(payload), grpc.StatusCode.INVALID_ARGUMENT, "ModelInferRequest")  # noqa: B023
            stream = server.channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
            (response,) = stream(iter([payload]))
            error = pb2.ModelStreamInferResponse.FromString(response).error_message
            self.assertTrue(error.startswith("INVALID_ARGUMENT: "), error)
        self.assertEqual(text_of(stub.ModelInfer(make_request())), own_answer())


if __name__ == "__main__":
    unittest.main()
