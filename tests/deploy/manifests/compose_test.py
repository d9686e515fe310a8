"""The Dockerfile, Compose's files and Envoy's: what they say of each other, of files, flags and ports, is so.

The flags are given to a real server; none of Docker, Compose and Envoy is needed.
"""

import os
import re
import subprocess
import tempfile
import unittest

import http2
from google.protobuf import descriptor_pb2
from sluice_server import ServerTest, generation_pb2, health_pb2

from deploy_files import (
    COMPOSE,
    DEPLOY,
    FAREWELL_SECONDS,
    GENERATION,
    SOURCE_DIR,
    Dockerfile,
    local,
    parse_flags,
    port_of,
    project_version,
    read_compose,
    read_yaml,
    server_flags,
)

# Files that are mounted but not in the tree, and what makes them.
MADE_BY = {"envoy/sluice.pb": "envoy/make_descriptors"}


def interpolate(text):
    """With no variable set."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text).group(1))


def parse_mount(mount):
    """(source, target, whether it is read-only)"""
    if isinstance(mount, dict):
        return interpolate(mount["source"]), mount["target"], mount.get("read_only", False)
    source, target, *options = interpolate(mount).split(":")
    return source, target, options == ["ro"]


def parse_port(port):
    """(address, port of the machine, port of the container)"""
    address, outside, inside = interpolate(port).split(":")
    return address, int(outside), int(inside)


def container_ports(service):
    return {parse_port(port)[2] for port in service.get("ports", ())}


class DockerfileTest(ServerTest):
    file = Dockerfile()

    def test_the_version_is_the_projects(self):
        version = [line for line in self.file.last_stage if line.startswith("ARG VERSION=")]
        self.assertEqual(version, [f"ARG VERSION={project_version()}"])

    def test_base_and_packages_can_be_pinned_as_documented(self):
        stages = "\n".join(self.file.lines).split("\nFROM ")
        # An argument before the first stage is known to FROM alone, others to the stage that declares them.
        self.assertRegex(stages[0], r"(?m)^ARG BASE=\S")
        self.assertTrue(stages[1].startswith("${BASE} AS build\n"))
        mirrors = ["APT_MIRROR", "APT_SECURITY_MIRROR"]
        for mirror in mirrors:
            self.assertIn(f"\nARG {mirror}=\n", stages[1].split("\nRUN", 1)[0])
        use = " ".join(f'"${{{mirror}}}"' for mirror in mirrors)
        self.assertIn(f"\nRUN deploy/image/use_mirror {use} && scripts/setup build\n", stages[1])
        page = (SOURCE_DIR / "docs" / "operations.md").read_text(encoding="utf-8")
        self.assertEqual(set(re.findall(r"--build-arg (\w+)=", page)), {"BASE", *mirrors})

    def test_ports_and_addresses_are_flags_of_the_server(self):
        environment = self.file.environment()
        self.assertLess(0, self.file.uid())
        flags = {f"SLUICE_{name.upper()}": default for name, default in server_flags().items()}
        ports = set()
        for name, value in environment.items():
            if name != "PATH":
                self.assertIn(name, flags)
                ports.add(port_of(value))
                # Only the interface is another one than by default.
                self.assertEqual(port_of(value), port_of(flags[name]))
        self.assertEqual(ports, {int(port) for port in self.file.argument("EXPOSE").split()})

    def test_what_is_copied_is_there(self):
        for line in self.file.lines:
            if line.startswith("COPY ") and "--from" not in line:
                for source in line.split()[1:-1]:
                    self.assertTrue((SOURCE_DIR / source).exists(), source)

    def test_the_health_check_of_image_and_compose_is_right_about_a_server(self):
        compose = read_yaml(DEPLOY / "compose.yaml")[0]["services"]["server"]["healthcheck"]["test"]
        self.assertEqual(compose, ["CMD", *self.file.health_check()])
        server = self.start()
        command = [os.environ["SLUICE_CLI"], *self.file.health_check()[1:], f"--address={server.grpc_address}"]
        self.assertEqual(subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode, 0)
        server.stop()
        done = subprocess.run(command, capture_output=True, check=False)
        self.assertEqual(done.returncode, 1)


class ComposeTest(unittest.TestCase):
    """What holds for all services, here and with Envoy."""

    files = COMPOSE["one server"]

    @classmethod
    def setUpClass(cls):
        compose = read_compose(*cls.files)
        cls.services, cls.volumes = compose["services"], compose["volumes"]

    def test_images_are_pinned(self):
        for name, service in self.services.items():
            tag = interpolate(service["image"]).rsplit(":", 1)[1]
            self.assertRegex(tag, r"\d+\.\d+\.\d+$", name)
        self.assertEqual(interpolate(self.services["server"]["image"]), f"sluice:{project_version()}")

    def test_what_is_mounted_is_there_and_read_only(self):
        for name, service in self.services.items():
            for mount in service.get("volumes", ()):
                source, _, read_only = parse_mount(mount)
                if source in self.volumes:
                    continue
                self.assertTrue(read_only, f"{name}: {mount}")
                made_by = MADE_BY.get(os.path.normpath(source))
                self.assertTrue((DEPLOY / (made_by or source)).exists(), f"{name}: {source}")
                if made_by:
                    self.assertIn(source.removeprefix("./envoy/"), (DEPLOY / made_by).read_text(encoding="utf-8"))

    def test_every_service_has_as_few_rights_as_it_can(self):
        for name, service in self.services.items():
            with self.subTest(name):
                self.assertTrue(service["read_only"])
                self.assertEqual(service["cap_drop"], ["ALL"])
                self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
                self.assertRegex(service["user"], r"^[1-9]\d*:\d+$")
                for variable in service.get("environment", {}):
                    self.assertNotRegex(variable, r"PASSWORD|SECRET|TOKEN|KEY$")
        self.assertEqual(self.services["server"]["user"], Dockerfile().argument("USER"))

    def test_ports_are_open_on_this_machine_only_and_never_twice(self):
        taken = []
        for service in self.services.values():
            for port in service.get("ports", ()):
                address, outside, _ = parse_port(port)
                self.assertEqual(address, "127.0.0.1")
                taken.append(outside)
        self.assertEqual(len(taken), len(set(taken)))

    def test_who_is_waited_for_says_when_it_is_healthy(self):
        for name, service in self.services.items():
            for other, how in service.get("depends_on", {}).items():
                self.assertEqual(how["condition"], "service_healthy", name)
                self.assertIn("healthcheck", self.services[other], name)

    def test_variables_are_explained(self):
        texts = [(DEPLOY / name).read_text(encoding="utf-8") for name in self.files]
        variables = {name for text in texts for name in re.findall(r"\$\{(\w+)", text)}
        comment = texts[0].split("\nname:", 1)[0]
        self.assertEqual(variables - set(re.findall(r"SLUICE_\w+", comment)), set())

    def test_what_starts_it_is_documented_and_makes_first_what_is_mounted(self):
        steps = [f"docker compose {' '.join(f'-f deploy/{name}' for name in self.files)} up --build"]
        sources = {parse_mount(mount)[0] for service in self.services.values() for mount in service.get("volumes", ())}
        steps[:0] = [f"deploy/{MADE_BY[s]}" for s in sorted(map(os.path.normpath, sources)) if s in MADE_BY]
        for path in (DEPLOY / self.files[-1], SOURCE_DIR / "docs" / "operations.md"):
            text = path.read_text(encoding="utf-8")
            self.assertRegex(text, r"\W+".join(map(re.escape, steps)), path)


class ComposeWithEnvoyTest(ComposeTest):
    files = COMPOSE["two behind Envoy"]

    def test_servers_have_no_port_that_two_could_not_have(self):
        server = self.services["server"]
        self.assertEqual(server["deploy"]["replicas"], 2)
        self.assertFalse(server.keys() & {"ports", "container_name", "network_mode"})


class ServicesTest(ServerTest):
    services = read_compose("compose.yaml")["services"]

    def test_the_server_takes_its_flags_and_listens_where_others_look_for_it(self):
        service = self.services["server"]
        flags = parse_flags(interpolate(argument) for argument in service["command"])
        mounts = {target: source for source, target, _ in map(parse_mount, service["volumes"])}
        model = (DEPLOY / mounts[flags["model"]]).resolve()
        server = self.start(*local(flags, model=model))
        answer = server.generation.Generate(
            generation_pb2.GenerateRequest(text="Once there was", model=flags["model_name"])
        )
        self.assertTrue(list(answer))
        self.assertGreater(
            seconds(service["stop_grace_period"]), int(flags["drain_timeout"]) + FAREWELL_SECONDS
        )
        environment = Dockerfile().environment()
        self.assertEqual(
            container_ports(service),
            {port_of(environment["SLUICE_LISTEN"]), port_of(environment["SLUICE_METRICS_LISTEN"])},
        )

    def test_prometheus_and_grafana_find_each_other_and_their_files(self):
        prometheus, grafana = self.services["prometheus"], self.services["grafana"]
        port = port_of(Dockerfile().environment()["SLUICE_METRICS_LISTEN"])
        targets = {target: DEPLOY / source for source, target, _ in map(parse_mount, prometheus["volumes"])}
        file = re.fullmatch(r"--config.file=(.*)/(.*)", prometheus["command"][0])
        config = read_yaml(targets[file.group(1)] / file.group(2))[0]
        (job,) = config["scrape_configs"]
        (found,) = job["dns_sd_configs"]
        # All of them, and not each name's first address.
        self.assertEqual((found["names"], found["type"], found["port"]), (["server"], "A", port))
        self.assertIn("server", self.services)
        for rules in config["rule_files"]:
            self.assertTrue(list(targets[file.group(1)].glob(rules)), rules)

        targets = {target: DEPLOY / source for source, target, _ in map(parse_mount, grafana["volumes"])}
        provisioning = targets["/etc/grafana/provisioning"]
        urls = [s["url"] for path in provisioning.glob("datasources/*.yaml") for s in read_yaml(path)[0]["datasources"]]
        self.assertEqual(urls, [f"http://prometheus:{container_ports(prometheus).pop()}"])
        providers = [p for path in provisioning.glob("dashboards/*.yaml") for p in read_yaml(path)[0]["providers"]]
        for provider in providers:
            self.assertTrue(list(targets[provider["options"]["path"]].glob("*.json")))
        home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        folder, name = home.rsplit("/", 1)
        self.assertTrue((targets[folder] / name).is_file(), home)


class EnvoyTest(ServerTest):
    config = read_yaml(DEPLOY / "envoy" / "envoy.yaml")[0]["static_resources"]
    service = read_compose("compose.envoy.yaml")["services"]["envoy"]

    def manager(self):
        return self.config["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]

    def routes(self):
        return [route for host in self.manager()["route_config"]["virtual_hosts"] for route in host["routes"]]

    def transcoder(self):
        return next(f["typed_config"] for f in self.manager()["http_filters"] if "grpc_json_transcoder" in f["name"])

    def test_listeners_routes_and_clusters_agree_with_compose(self):
        listening = {listener["address"]["socket_address"]["port_value"] for listener in self.config["listeners"]}
        self.assertEqual(listening, container_ports(self.service))
        clusters = {cluster["name"]: cluster for cluster in self.config["clusters"]}
        self.assertEqual({route["route"]["cluster"] for route in self.routes()}, set(clusters))
        for cluster in clusters.values():
            self.assertEqual(cluster["load_assignment"]["cluster_name"], cluster["name"])
            for endpoint in cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]:
                address = endpoint["endpoint"]["address"]["socket_address"]
                self.assertEqual(address["address"], "server")
                self.assertEqual(address["port_value"], port_of(Dockerfile().environment()["SLUICE_LISTEN"]))

    def test_answers_may_take_their_time_and_only_refusals_are_retried(self):
        for route in self.routes():
            self.assertEqual(route["route"]["timeout"], "0s")
            retry = set(route["route"]["retry_policy"]["retry_on"].split(","))
            self.assertLessEqual({"unavailable", "resource-exhausted"}, retry)
            # These would send a request again whose answer had begun, or that is simply wrong.
            self.assertFalse(retry & {"5xx", "gateway-error", "retriable-4xx", "cancelled", "internal", "reset"})

    def test_the_transcoder_knows_services_that_exist(self):
        mounted = {target: source for source, target, _ in map(parse_mount, self.service["volumes"])}
        self.assertEqual(MADE_BY[os.path.normpath(mounted[self.transcoder()["proto_descriptor"]])],
                         "envoy/make_descriptors")
        with tempfile.NamedTemporaryFile() as file:
            subprocess.run(
                [DEPLOY / "envoy" / "make_descriptors", file.name],
                env={**os.environ, "PROTOC": os.environ["SLUICE_PROTOC"]}, check=True,
            )
            files = descriptor_pb2.FileDescriptorSet.FromString(file.read()).file
        services = {f"{f.package}.{s.name}": {m.name for m in s.method} for f in files for s in f.service}
        self.assertEqual(set(self.transcoder()["services"]), set(services))
        # Imported types are there, and those of the details of errors.
        self.assertLessEqual({"google/rpc/status.proto", "google/protobuf/any.proto"}, {f.name for f in files})
        comment = (DEPLOY / "envoy" / "envoy.yaml").read_text(encoding="utf-8").split("\nstatic_resources", 1)[0]
        service, method = re.search(r"http://127\.0\.0\.1:8080/(\S+)/(\S+)", comment).groups()
        self.assertIn(method, services[service])

    def test_health_is_asked_of_a_service_that_the_server_knows(self):
        server = self.start()
        for cluster in self.config["clusters"]:
            for check in cluster["health_checks"]:
                name = check["grpc_health_check"]["service_name"]
                self.assertEqual(name, GENERATION)
                answer = server.health.Check(health_pb2.HealthCheckRequest(service=name))
                self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)

    def test_a_refusal_is_in_the_first_headers_and_says_when_to_come_back_as_envoy_reads_it(self):
        retry = self.routes()[0]["route"]["retry_policy"]
        header = retry["rate_limited_retry_back_off"]["reset_headers"][0]["name"]
        server = self.start("--max_active_requests=1")
        request = generation_pb2.GenerateRequest(text="Once there was")
        request.stopping.max_tokens = 900
        request.stopping.ignore_eos = True
        request.response.logprobs = 20
        held = server.generation.Generate(request)
        self.addCleanup(held.cancel)
        next(held)
        with http2.Connection(server.grpc_address) as connection:
            connection.start_call(b"/sluice.v1.Generation/Generate", request.SerializeToString())
            _, flags, _, payload = connection.await_frame(http2.HEADERS)
            self.assertTrue(flags & http2.END_STREAM, "headers that are not the end")
            self.assertIn(header.encode(), payload)


if __name__ == "__main__":
    unittest.main()
