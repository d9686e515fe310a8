"""What promtool does not check of the alerts: severity, texts, the page that says what to do, and that each is tested."""

import os
import pathlib
import re
import unittest

import yaml

from rule_files import groups, rules

SOURCE_DIR = pathlib.Path(os.environ["SLUICE_SOURCE_DIR"])
TESTS = sorted((SOURCE_DIR / "tests/deploy/rules").glob("*.yaml"))
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def anchors(document):
    """Of its headings, as they are made for headings of one word."""
    text = (SOURCE_DIR / document).read_text(encoding="utf-8")
    return {heading.strip().lower() for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


class AlertsTest(unittest.TestCase):
    def test_names_are_distinct(self):
        names = [rule[kind] for kind in ("alert", "record") for rule in rules(kind)]
        self.assertEqual(len(names), len(set(names)))

    def test_alerts_say_how_bad_it_is_what_it_is_and_where_to_read_on(self):
        for alert in rules("alert"):
            with self.subTest(alert["alert"]):
                self.assertIn(alert["labels"]["severity"], ("critical", "warning", "info"))
                texts = alert["annotations"]
                self.assertEqual(texts.keys(), {"summary", "description", "runbook"})
                for text in (texts["summary"], texts["description"]):
                    self.assertRegex(text, r"\.$")
                document, anchor = texts["runbook"].split("#")
                self.assertEqual((document, anchor), ("docs/operations.md", alert["alert"].lower()))
                self.assertIn(anchor, anchors(document))

    def test_windows_have_four_scrapes(self):
        interval = load(SOURCE_DIR / "deploy/prometheus/prometheus.yaml")["global"]["scrape_interval"]
        for rule in rules("expr"):
            for number, unit in re.findall(r"\[(\d+)([smhd])\]", rule["expr"]):
                with self.subTest(rule["expr"]):
                    self.assertGreaterEqual(int(number) * SECONDS[unit], 4 * int(interval.rstrip("s")))

    def test_what_looks_at_days_is_not_evaluated_every_few_seconds(self):
        of_days = {g["name"]: g.get("interval") for g in groups() if any("[3d]" in r["expr"] for r in g["rules"])}
        self.assertTrue(of_days)
        self.assertEqual(set(of_days.values()), {"1m"}, of_days)

    def test_grafana_knows_the_scrape_interval(self):
        interval = load(SOURCE_DIR / "deploy/prometheus/prometheus.yaml")["global"]["scrape_interval"]
        (source,) = load(SOURCE_DIR / "deploy/grafana/provisioning/datasources/prometheus.yaml")["datasources"]
        self.assertEqual(source["jsonData"]["timeInterval"], interval)

    def test_each_alert_fires_in_a_case_and_is_silent_in_its_neighbour(self):
        fires, has_neighbour = set(), set()
        for path in TESTS:
            for case in load(path)["tests"]:
                subjects = {
                    re.search(label + r'="([^"]*)"', series["series"]).group(1)
                    for series in case["input_series"]
                    for label in ("instance", "job")
                    if re.search(label + r'="', series["series"])
                }
                for check in case["alert_rule_test"]:
                    fired = {
                        value
                        for alert in check["exp_alerts"]
                        for name, value in alert["exp_labels"].items()
                        if name in ("instance", "job")
                    }
                    if fired:
                        fires.add(check["alertname"])
                    if subjects - fired:
                        has_neighbour.add(check["alertname"])
        names = {alert["alert"] for alert in rules("alert")}
        self.assertEqual(fires, names)
        self.assertEqual(has_neighbour, names)


if __name__ == "__main__":
    unittest.main()
