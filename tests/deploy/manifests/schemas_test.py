"""Compose's files, Kubernetes' manifests and Envoy's configuration against the schemas of those who read them.

Kubernetes' and Compose's come as npm packages (../package.json); KServe's have none. Envoy's own messages come with gRPC for
Node: its configuration is one of them, written as YAML.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from deploy_files import COMPOSE, DEPLOY, read_compose, read_yaml
from kubernetes_test import KUBERNETES, build, prometheus_rule

HERE = pathlib.Path(__file__).resolve().parent
ENVOY_API = HERE.parent / "node_modules" / "@grpc" / "grpc-js-xds" / "deps"
ENVOY_MESSAGES = (
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/http/grpc_json_transcoder/v3/transcoder.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
)


def wrong(kubernetes=(), compose=()):
    """What is wrong with these."""
    done = subprocess.run(
        [os.environ["SLUICE_NODE"], HERE / "check_schemas.cjs"],
        input=json.dumps({"kubernetes": list(kubernetes), "compose": list(compose)}),
        capture_output=True, text=True, check=False,
    )
    if done.stderr:
        raise AssertionError(done.stderr)
    return done.stdout.splitlines()


class SchemasTest(unittest.TestCase):
    def test_kubernetes(self):
        for folder in (KUBERNETES / "base", KUBERNETES / "overlays" / "qwen3_tls"):
            self.assertEqual(wrong(kubernetes=build(folder).values()), [])

    def test_the_rules_as_an_object_of_prometheus_operator(self):
        self.assertEqual(wrong(kubernetes=[prometheus_rule()]), [])

    def test_compose(self):
        for files in COMPOSE.values():
            self.assertEqual(wrong(compose=[read_compose(*files)]), [], files)

    def test_misspelt_and_mistyped_fields_are_found(self):
        deployment = build(KUBERNETES / "base")["Deployment", "sluice"]
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        container["readinessProbe"]["failureTreshold"] = container["readinessProbe"].pop("failureThreshold")
        path = "/spec/template/spec/containers/0"
        self.assertEqual(
            wrong(kubernetes=[deployment]), [f"Deployment sluice {path}/readinessProbe/failureTreshold: unknown"]
        )
        container["ports"][0]["containerPort"] = "grpc"
        self.assertRegex(wrong(kubernetes=[deployment])[0], f"^Deployment sluice {path}/ports/0/containerPort:")
        compose = read_compose("compose.yaml")
        compose["services"]["server"]["readonly"] = compose["services"]["server"].pop("read_only")
        self.assertRegex(wrong(compose=[compose])[0], "^/services/server: must NOT have additional properties")


class EnvoyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory(prefix="sluice_envoy_") as folder:
            folder = pathlib.Path(folder)
            # The rules for values in this package are newer than the file that says what rules there are; one of them
            # is unknown there, and none is needed to read messages.
            for source in ENVOY_API.rglob("*.proto"):
                target = folder / source.relative_to(ENVOY_API)
                target.parent.mkdir(parents=True, exist_ok=True)
                text = source.read_text(encoding="utf-8").replace("ignore_empty: true", "")
                target.write_text(text, encoding="utf-8")
            roots = [folder / name for name in ("envoy-api", "googleapis", "protoc-gen-validate", "xds")]
            out = folder / "envoy.pb"
            subprocess.run(
                [os.environ["SLUICE_PROTOC"], *(f"-I{root}" for root in roots), "--include_imports",
                 f"--descriptor_set_out={out}", *ENVOY_MESSAGES],
                check=True,
            )
            files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
        cls.pool = descriptor_pool.DescriptorPool()
        for file in files:
            cls.pool.Add(file)
        descriptor = cls.pool.FindMessageTypeByName("envoy.config.bootstrap.v3.Bootstrap")
        cls.bootstrap = message_factory.MessageFactory(cls.pool).GetPrototype(descriptor)

    def parse(self, config):
        return json_format.ParseDict(config, self.bootstrap(), descriptor_pool=self.pool)

    def test_the_configuration_is_one_of_envoys_messages(self):
        message = self.parse(read_yaml(DEPLOY / "envoy" / "envoy.yaml")[0])
        self.assertEqual(len(message.static_resources.clusters), 1)
        self.assertEqual(message.static_resources.clusters[0].lb_policy, 1, "LEAST_REQUEST")

    def test_misspelt_fields_are_found_inside_extensions_too(self):
        text = (DEPLOY / "envoy" / "envoy.yaml").read_text(encoding="utf-8")
        for name in ("retry_back_off", "auto_mapping", "grpc_health_check", "dns_refresh_rate"):
            with self.assertRaises(json_format.ParseError, msg=name):
                self.parse(yaml.safe_load(text.replace(f"{name}:", f"{name}s:")))


# Those of kubernetes_test are run there.
def load_tests(loader, _tests, _pattern):
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in (SchemasTest, EnvoyTest))


if __name__ == "__main__":
    unittest.main()
