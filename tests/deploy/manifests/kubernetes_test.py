"""Kubernetes' manifests: what they say of each other and of the server is so.

Overlays are put together here, which says what is expected, and by Kustomize: both must come to the same. The flags are given
to real servers, and what is asked of servers is asked of one.
"""

import copy
import os
import pathlib
import re
import subprocess
import unittest

import yaml
import rule_files
from sluice_server import ServerTest, health_pb2

from deploy_files import (
    DEPLOY,
    FAREWELL_SECONDS,
    GENERATION,
    Dockerfile,
    bytes_of,
    local,
    parse_flags,
    port_of,
    project_version,
    read_yaml,
    server_flags,
)

KUBERNETES = DEPLOY / "kubernetes"
NAME = "app.kubernetes.io/name"
# What is known of the server's memory beside its cache and gRPC's: the demo model and everything else.
REST_BYTES = 128 << 20
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def merge(target, patch):
    """A strategic merge: null removes, lists of what has a name are merged by it, other lists are replaced."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict) and isinstance(target.get(key), dict):
            merge(target[key], value)
        elif isinstance(value, list) and all(isinstance(v, dict) and "name" in v for v in value + target.get(key, [])):
            items = {item["name"]: item for item in target.get(key, [])}
            for item in value:
                merge(items.setdefault(item["name"], {}), item)
            target[key] = list(items.values())
        else:
            target[key] = copy.deepcopy(value)


def build(folder):
    """The objects of a kustomization, by (kind, name)."""
    kustomization = read_yaml(folder / "kustomization.yaml")[0]
    objects = {}
    for resource in kustomization.get("resources", []) + kustomization.get("components", []):
        path = (folder / resource).resolve()
        if path.is_dir():
            objects.update(build(path))
        else:
            objects.update({(o["kind"], o["metadata"]["name"]): o for o in read_yaml(path)})
    for patch in kustomization.get("patches", []):
        for document in read_yaml(folder / patch["path"]):
            merge(objects[document["kind"], document["metadata"]["name"]], document)
    for image in kustomization.get("images", []):
        for deployment in (o for o in objects.values() if o["kind"] == "Deployment"):
            for container in deployment["spec"]["template"]["spec"]["containers"]:
                if container["image"] == image["name"]:
                    container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    return objects


def kustomize_build(folder):
    """The same by Kustomize."""
    text = subprocess.run(["kustomize", "build", folder], capture_output=True, text=True, check=True).stdout
    return {(o["kind"], o["metadata"]["name"]): o for o in yaml.safe_load_all(text)}


def prometheus_rule():
    """What make_prometheus_rule prints."""
    text = subprocess.run([KUBERNETES / "make_prometheus_rule"], capture_output=True, text=True, check=True).stdout
    return yaml.safe_load(text)


def selects(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


class Kubernetes(ServerTest):
    """What holds for a Deployment, wherever it is."""

    folder = None

    @classmethod
    def setUpClass(cls):
        cls.objects = build(cls.folder)
        cls.deployment = cls.objects["Deployment", "sluice"]["spec"]
        cls.pod = cls.deployment["template"]["spec"]
        cls.labels = cls.deployment["template"]["metadata"]["labels"]
        cls.container = cls.pod["containers"][0]
        cls.flags = parse_flags(cls.container["args"])
        cls.ports = {port["name"]: port["containerPort"] for port in cls.container["ports"]}

    def of_kind(self, kind):
        return [o for (k, _), o in self.objects.items() if k == kind]

    def check_kustomize_agrees(self):
        self.assertEqual(kustomize_build(self.folder), self.objects)

    def check_labels(self):
        self.assertTrue(selects(self.deployment["selector"]["matchLabels"], self.labels))
        for service in self.of_kind("Service"):
            self.assertTrue(selects(service["spec"]["selector"], self.labels), service["metadata"]["name"])
            for port in service["spec"]["ports"]:
                self.assertEqual(self.ports.get(port["targetPort"]), port["port"])
        for kind, key in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
            for o in self.of_kind(kind):
                self.assertTrue(selects(o["spec"][key]["matchLabels"], self.labels), kind)
        for policy in self.of_kind("NetworkPolicy"):
            for rule in policy["spec"]["ingress"]:
                self.assertLessEqual({port["port"] for port in rule["ports"]}, set(self.ports))
        for spread in self.pod["topologySpreadConstraints"]:
            self.assertTrue(selects(spread["labelSelector"]["matchLabels"], self.labels))
        for monitor in self.of_kind("ServiceMonitor"):
            chosen = [s for s in self.of_kind("Service")
                      if selects(monitor["spec"]["selector"]["matchLabels"], s["metadata"]["labels"])]
            self.assertEqual([s["metadata"]["name"] for s in chosen], ["sluice-metrics"])
            self.assertEqual(
                {e["port"] for e in monitor["spec"]["endpoints"]}, {p["name"] for p in chosen[0]["spec"]["ports"]}
            )
            # The rules ask for the job by name.
            jobs = read_yaml(DEPLOY / "prometheus" / "prometheus.yaml")[0]["scrape_configs"]
            self.assertIn(chosen[0]["metadata"]["labels"][monitor["spec"]["jobLabel"]], [j["job_name"] for j in jobs])

    def check_ports(self):
        self.assertEqual(self.ports, {"grpc": port_of(self.flags["listen"]),
                                      "metrics": port_of(self.flags["metrics_listen"])})
        self.assertTrue(self.flags["listen"].startswith("0.0.0.0:"))
        for probe in PROBES:
            if "grpc" in self.container[probe]:
                self.assertEqual(self.container[probe]["grpc"]["port"], self.ports["grpc"], probe)

    def check_times(self):
        stop = self.pod["terminationGracePeriodSeconds"]
        sleep = self.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        self.assertGreater(stop, sleep + int(self.flags["drain_timeout"]) + FAREWELL_SECONDS)
        startup = self.container["startupProbe"]
        self.assertGreater(self.deployment["progressDeadlineSeconds"],
                           startup["periodSeconds"] * startup["failureThreshold"])

    def check_resources(self):
        resources = self.container["resources"]
        self.assertEqual(resources["requests"], resources["limits"])
        self.assertEqual(resources["limits"]["cpu"], self.flags["threads"])
        grpc = self.flags.get("grpc_memory_bytes", server_flags()["grpc_memory_bytes"])
        need = bytes_of(self.flags["kv_cache_bytes"]) + bytes_of(grpc) + REST_BYTES
        self.assertGreaterEqual(bytes_of(resources["limits"]["memory"]), need)

    def check_security(self):
        self.assertFalse(self.pod["automountServiceAccountToken"])
        self.assertFalse(self.pod["enableServiceLinks"])
        context = self.pod["securityContext"]
        self.assertTrue(context["runAsNonRoot"])
        self.assertEqual(context["runAsUser"], Dockerfile().uid())
        self.assertEqual(context["seccompProfile"]["type"], "RuntimeDefault")
        self.check_container_security(self.container)
        self.assertEqual(self.container["image"], f"sluice:{project_version()}")

    def check_container_security(self, container):
        context = container["securityContext"]
        self.assertTrue(context["readOnlyRootFilesystem"])
        self.assertFalse(context["allowPrivilegeEscalation"])
        self.assertEqual(context["capabilities"], {"drop": ["ALL"]})

    def check_volumes(self):
        mounts = {mount["name"]: mount for mount in self.container.get("volumeMounts", [])}
        self.assertEqual(set(mounts), {volume["name"] for volume in self.pod.get("volumes", [])})
        self.assertTrue(all(mount["readOnly"] for mount in mounts.values()))
        places = [pathlib.PurePath(mount["mountPath"]) for mount in mounts.values()]
        used = [value for value in self.flags.values() if value.startswith("/")]
        used += [e["value"] for e in self.container.get("env", []) if e["value"].startswith("/")]
        for path in used:
            self.assertTrue(any(place in pathlib.PurePath(path).parents for place in places), path)

    def test_it_hangs_together(self):
        for check in (self.check_kustomize_agrees, self.check_labels, self.check_ports, self.check_times,
                      self.check_resources, self.check_security, self.check_volumes):
            with self.subTest(check.__name__):
                check()


class BaseTest(Kubernetes):
    folder = KUBERNETES / "base"

    def test_a_server_takes_the_flags_and_answers_the_probes_and_the_autoscaler(self):
        # As many threads as this machine has.
        server = self.start(*local(self.flags, threads="0"))
        asked = {probe: self.container[probe]["grpc"]["service"] for probe in PROBES}
        self.assertEqual(asked, {"startupProbe": GENERATION, "readinessProbe": GENERATION, "livenessProbe": ""})
        for service in asked.values():
            answer = server.health.Check(health_pb2.HealthCheckRequest(service=service))
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)
        scaler = self.objects["HorizontalPodAutoscaler", "sluice"]["spec"]
        self.assertIn((scaler["scaleTargetRef"]["kind"], scaler["scaleTargetRef"]["name"]), self.objects)
        names = {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]}
        page = server.scrape()
        for name in names:
            self.assertRegex(page, rf"(?m)^{name} \d")
        adapter = read_yaml(KUBERNETES / "prometheus_adapter_rules.yaml")[0]["rules"]["custom"][0]["seriesQuery"]
        self.assertEqual(set(re.search(r'__name__=~"([^"]*)"', adapter).group(1).split("|")), names)

    def test_every_file_is_part_of_it(self):
        for folder in (self.folder, KUBERNETES / "kserve", KUBERNETES / "components" / "prometheus_operator"):
            kustomization = read_yaml(folder / "kustomization.yaml")[0]
            files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
            self.assertEqual(set(kustomization["resources"]), files)

    def test_the_headless_service_is_one(self):
        self.assertEqual(self.objects["Service", "sluice"]["spec"]["clusterIP"], "None")


class TlsOverlayTest(Kubernetes):
    folder = KUBERNETES / "overlays" / "qwen3_tls"

    def test_nobody_is_told_that_the_port_has_no_tls(self):
        (port,) = self.objects["Service", "sluice"]["spec"]["ports"]
        self.assertEqual((port["name"], port["appProtocol"]), ("grpc", "https"))

    def test_probes_are_programs_that_the_client_understands(self):
        self.assertIn("tls_cert", self.flags)
        environment = {e["name"] for e in self.container["env"]}
        help_text = subprocess.run([os.environ["SLUICE_CLI"], "--help"], capture_output=True, text=True, check=True)
        for name in environment:
            self.assertIn(f"Env:{name})", help_text.stdout)
        server = self.start()
        for probe in PROBES:
            self.assertNotIn("grpc", self.container[probe])
            program, *arguments = self.container[probe]["exec"]["command"]
            self.assertEqual(program, "sluice")
            done = subprocess.run(
                [os.environ["SLUICE_CLI"], *arguments, f"--address={server.grpc_address}"],
                capture_output=True, text=True, check=False,
            )
            self.assertEqual((done.returncode, done.stdout), (0, "SERVING\n"), done.stderr)
            # The client gives up before the probe does, and says why.
            timeout = next(a for a in arguments if a.startswith("--timeout="))
            self.assertLess(int(timeout.split("=")[1]), self.container[probe]["timeoutSeconds"])


class KServeTest(ServerTest):
    objects = build(KUBERNETES / "kserve")
    runtime = objects["ServingRuntime", "sluice"]["spec"]
    service = objects["InferenceService", "olmoe"]["spec"]["predictor"]

    def test_kustomize_agrees(self):
        self.assertEqual(kustomize_build(KUBERNETES / "kserve"), self.objects)

    def test_it_is_not_scaled_by_the_processor(self):
        annotations = self.objects["InferenceService", "olmoe"]["metadata"]["annotations"]
        self.assertEqual(annotations["serving.kserve.io/autoscalerClass"], "external")
        self.assertFalse(self.service.keys() & {"maxReplicas", "scaleMetric", "scaleTarget", "autoScaling"})

    def test_runtime_and_service_fit(self):
        model = self.service["model"]
        self.assertIn(("ServingRuntime", model["runtime"]), self.objects)
        self.assertIn(model["modelFormat"]["name"], [f["name"] for f in self.runtime["supportedModelFormats"]])
        self.assertIn(model["protocolVersion"], self.runtime["protocolVersions"])
        self.assertRegex(model["storageUri"], r"^(hf|pvc)://")
        resources = model["resources"]
        self.assertEqual(resources["requests"], resources["limits"])
        variables = {e["name"]: e["value"] for e in model["env"]}
        self.assertLessEqual({name.removeprefix("SLUICE_").lower() for name in variables}, set(server_flags()))
        self.assertEqual(variables["SLUICE_THREADS"], resources["limits"]["cpu"])

    def test_the_runtime_is_one_of_our_servers(self):
        container = self.runtime["containers"][0]
        self.assertEqual(container["name"], "kserve-container")
        self.assertEqual(container["image"], f"sluice:{project_version()}")
        flags = parse_flags(container["args"])
        # Where KServe puts the model.
        self.assertEqual(flags["model"], "/mnt/models")
        self.assertEqual([p["containerPort"] for p in container["ports"]], [port_of(flags["listen"])])
        self.assertEqual(self.runtime["annotations"]["prometheus.io/port"], str(port_of(flags["metrics_listen"])))
        self.assertEqual(container["securityContext"]["runAsUser"], Dockerfile().uid())
        self.assertTrue(container["securityContext"]["readOnlyRootFilesystem"])
        stop = container["lifecycle"]["preStop"]["sleep"]["seconds"] + int(flags["drain_timeout"]) + FAREWELL_SECONDS
        self.assertGreater(self.service["terminationGracePeriodSeconds"], stop)
        server = self.start(*local(flags, model="", model_name="olmoe"))
        for probe in PROBES:
            grpc = container[probe]["grpc"]
            self.assertEqual(grpc["port"], port_of(flags["listen"]))
            answer = server.health.Check(health_pb2.HealthCheckRequest(service=grpc["service"]))
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING)


class PrometheusRuleTest(unittest.TestCase):
    def test_it_has_every_rule_but_the_one_that_the_autoscaler_would_set_off(self):
        rule = prometheus_rule()
        self.assertEqual(rule["kind"], "PrometheusRule")
        made = [(group["name"], entry) for group in rule["spec"]["groups"] for entry in group["rules"]]
        every = [(group["name"], entry) for group in rule_files.groups() for entry in group["rules"]]
        left_out = [entry["alert"] for group, entry in every if (group, entry) not in made]
        self.assertEqual(left_out, ["SluiceServersFewer"])
        self.assertEqual(len(made), len(every) - 1)


# The class with the checks is no test of its own.
def load_tests(loader, _tests, _pattern):
    classes = (BaseTest, TlsOverlayTest, KServeTest, PrometheusRuleTest)
    return unittest.TestSuite(loader.loadTestsFromTestCase(case) for case in classes)


if __name__ == "__main__":
    unittest.main()
