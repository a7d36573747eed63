"""The files of deploy/: queries name metrics that exist, manifests fit the service's settings."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from twotower.cli import main
from twotower.service.api.app import create_app
from twotower.service.api.metrics import Metrics
from twotower.service.settings import ServeSettings

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
OF_PROMETHEUS = {"up"}
WORDS = {
    "sum", "by", "rate", "histogram_quantile", "max", "min", "count", "increase", "ignoring",
    "group_left", "on", "le",
}  # fmt: skip


def queries() -> Iterator[tuple[str, str]]:
    """Where each query stands, and the query."""
    board = json.loads((DEPLOY / "grafana/dashboards/twotower.json").read_text())
    for panel in board["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    alerts = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    for group in alerts["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    adapter = yaml.safe_load((DEPLOY / "kubernetes/p99/adapter-rule.yaml").read_text())
    for rule in adapter["rules"]:
        query = rule["metricsQuery"].replace(",<<.LabelMatchers>>", "")
        yield rule["name"]["as"], query.replace(", <<.GroupBy>>", "")


def metrics() -> dict[str, set[str]]:
    """Every name that a query may have, with its labels."""
    found = {}
    for family in Metrics().registry._names_to_collectors.items():
        name, collector = family
        found[name] = {*collector._labelnames} | ({"le"} if name.endswith("_bucket") else set())
    return found


@pytest.mark.parametrize(("where", "query"), [*queries()], ids=lambda text: text[:40])
def test_every_query_names_metrics_and_labels_that_exist(where: str, query: str) -> None:
    known = metrics()
    named = set(re.findall(r"\b(twotower_\w+|up)\b", query))
    assert named, where
    assert named <= known.keys() | OF_PROMETHEUS
    labels = {label for name in named for label in known.get(name, {"job"})}
    used = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", query))
    for part in re.findall(r"\b(?:by|ignoring)\s*\(([^)]*)\)", query):
        used |= {one.strip() for one in part.split(",")}
    assert used <= labels, where
    values = dict(re.findall(r"(item|user|kind|outcome)=\"(\w+)\"", query))
    assert set(values.values()) <= {"new", "refused", "untrained"}
    assert query.count("(") == query.count(")")
    outside = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\[[^\]]*\]|\([^()]*\)", " ", query)
    words = set(re.findall(r"\b[a-z_]+\b", outside))
    assert words <= WORDS | known.keys() | OF_PROMETHEUS


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    shown = " ".join(query for _, query in queries())
    ours = {name for name in metrics() if not name.endswith(("_created", "_sum", "_count"))}
    unseen = {name for name in ours if name not in shown}
    assert {re.sub("_(total|bucket)$", "", name) for name in unseen} <= {
        re.sub("_(total|bucket)$", "", name) for name in ours - unseen
    }


def test_every_alert_says_what_to_do() -> None:
    for group in yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert {"summary", "fix"} == set(rule["annotations"])
            assert rule["labels"]["severity"] in ("page", "ticket")


def manifests() -> dict[str, dict[str, Any]]:
    base = DEPLOY / "kubernetes/base"
    listed = yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        path.name for path in base.iterdir() if path.name != "kustomization.yaml"
    )
    found = [yaml.safe_load((base / name).read_text()) for name in listed]
    return {one["kind"]: one for one in found}


def settings_of(container: dict[str, Any]) -> set[str]:
    return {one["name"].removeprefix("TWOTOWER_").lower() for one in container["env"]}


def test_the_manifests_fit_the_service(tmp_path: Path) -> None:
    kinds = manifests()
    pod = kinds["Deployment"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert settings_of(container) <= set(ServeSettings.model_fields)
    paths = {route.path for route in create_app(ServeSettings(bundle=tmp_path)).routes}
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[name]["httpGet"]["path"] in paths
        assert container[name]["httpGet"]["port"] == container["ports"][0]["name"]
    drain = ServeSettings.model_fields["drain_s"].default
    assert pod["spec"]["terminationGracePeriodSeconds"] >= drain + 6  # 3 s more, and preStop
    labels = pod["metadata"]["labels"].items()
    for selector in (
        kinds["Deployment"]["spec"]["selector"]["matchLabels"],
        kinds["Service"]["spec"]["selector"],
        kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels
    scaled = kinds["HorizontalPodAutoscaler"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == kinds["Deployment"]["metadata"]["name"]
    assert scaled["minReplicas"] > kinds["PodDisruptionBudget"]["spec"]["minAvailable"]


def test_no_container_may_more_than_it_needs() -> None:
    kinds = manifests()
    retraining = kinds["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    for pod in (kinds["Deployment"]["spec"]["template"]["spec"], retraining):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert "password" not in json.dumps(container).lower()


def test_the_retraining_job_is_a_command_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    spec = manifests()["CronJob"]["spec"]["jobTemplate"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    with pytest.raises(SystemExit):
        main([container["args"][0], "--help"])
    shown = capsys.readouterr().out
    assert all(one in shown for one in container["args"] if one.startswith("--"))
    assert settings_of(container) <= set(ServeSettings.model_fields)
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]


def test_compose_mounts_files_that_exist_and_names_its_own_secrets() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    assert set(compose["services"]) == {"twotower", "postgres", "prometheus", "grafana"}
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./deploy"):
                assert (ROOT / source).exists()
            elif not source.startswith("./"):
                assert source in compose["volumes"]
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
    scrape = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    (job,) = scrape["scrape_configs"]
    assert job["static_configs"][0]["targets"] == ["twotower:8000"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_key"
    (source,) = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    )["datasources"]
    board = json.loads((DEPLOY / "grafana/dashboards/twotower.json").read_text())
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}
