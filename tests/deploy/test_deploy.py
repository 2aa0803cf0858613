"""What is handed to clusters: the JobSet fits its published schema and our exit codes, the SLURM script is a script.

jobset.schema.json is the CRD's own schema, from where its first lines say, without descriptions and status.
"""

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dalle3_jax.commands.serve import build_parser
from dalle3_jax.runtime.exit_codes import EXIT_HUNG, EXIT_PEER, EXIT_SAVED
from dalle3_jax.stages.config import load_config

ROOT = Path(__file__).parents[2]
CRD = json.loads(Path(__file__).with_name("jobset.schema.json").read_text())
TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool, "number": (int, float)}

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1


def misfits(value: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """What a cluster that validates strictly would refuse, by path."""
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str):
            yield f"{path} is {value!r}"
        return
    kind = schema.get("type", "object")
    if not isinstance(value, TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield f"{path} is {value!r}, not of type {kind}"
        return
    if value not in schema.get("enum", [value]):
        yield f"{path} is {value!r}, not one of {schema['enum']}"
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from misfits(item, schema["items"], f"{path}[{index}]")
    if isinstance(value, dict):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        yield from (f"{path}.{name} is missing" for name in schema.get("required", []) if name not in value)
        for name, item in value.items():
            if name in known or rest:
                yield from misfits(item, known.get(name, rest), f"{path}.{name}")
            elif known:  # metadata is typed elsewhere
                yield f"{path}.{name} is unknown"


@pytest.fixture
def jobset() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "deploy/jobset.yaml").read_text())


def pods(jobset: dict[str, Any]) -> dict[str, Any]:
    """The job of a slice."""
    return jobset["spec"]["replicatedJobs"][0]["template"]["spec"]


def test_the_jobset_fits_the_published_schema(jobset):
    assert jobset["apiVersion"] == f"{CRD['group']}/{CRD['version']}"
    assert jobset["kind"] == CRD["kind"]
    assert list(misfits(jobset, CRD["schema"])) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda spec: spec.update(replicas=2), ".spec.replicas is unknown"),
        (lambda spec: spec["failurePolicy"].update(maxRestarts="50"), "maxRestarts is '50'"),
        (lambda spec: spec["failurePolicy"]["rules"][0].update(action="Fail"), "action is 'Fail'"),
        (lambda spec: spec["replicatedJobs"][0].pop("name"), ".spec.replicatedJobs[0].name is missing"),
        (
            lambda spec: spec["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0].pop("name"),
            "containers[0].name is missing",
        ),
    ],
)
def test_the_check_sees_what_a_cluster_would_refuse(jobset, change, named):
    changed = copy.deepcopy(jobset)
    change(changed["spec"])
    [problem] = misfits(changed, CRD["schema"])
    assert named in problem


def test_a_pod_for_every_host_of_the_topology(jobset):
    job = pods(jobset)
    pod = job["template"]["spec"]
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    chips = pod["containers"][0]["resources"]["limits"]["google.com/tpu"]
    assert job["parallelism"] == job["completions"] == rows * columns // chips
    assert {volume["name"] for volume in pod["volumes"]} == {
        mount["name"] for mount in pod["containers"][0]["volumeMounts"]
    }


def test_bad_input_alone_ends_the_jobset_and_all_else_starts_again(jobset):
    job = pods(jobset)
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["values"] == [2]
    assert rule["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # which a podFailurePolicy demands
    assert job["backoffLimit"] == 0


def test_the_pods_command_is_one_that_train_takes(jobset):
    [container] = pods(jobset)["template"]["spec"]["containers"]
    assert container["command"][-1] == "train.py"
    loaded = load_config(container["args"])
    assert loaded is not None
    config, workdir = loaded
    mount = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}["runs"]
    assert str(workdir).startswith(mount)
    assert config.mesh.slices == jobset["spec"]["replicatedJobs"][0]["replicas"]


@pytest.fixture
def server() -> tuple[dict[str, Any], dict[str, Any]]:
    """The Deployment and the Service."""
    deployment, service = yaml.safe_load_all((ROOT / "deploy/server.yaml").read_text())
    return deployment, service


def test_the_servers_pod_fits_the_schema_of_pods(server):
    job = CRD["schema"]["properties"]["spec"]["properties"]["replicatedJobs"]["items"]["properties"]["template"]
    schema = job["properties"]["spec"]["properties"]["template"]
    assert list(misfits(server[0]["spec"]["template"], schema)) == []
    server[0]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["path"] = "/"
    assert [*misfits(server[0]["spec"]["template"], schema)] == [".spec.containers[0].readinessProbe.path is unknown"]


def test_the_servers_parts_find_each_other(server):
    deployment, service = server
    template = deployment["spec"]["template"]
    [container] = template["spec"]["containers"]
    assert (
        deployment["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"] == service["spec"]["selector"]
    )
    port = container["ports"][0]["containerPort"]
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert {probe["port"] for probe in probes} == {port} == {service["spec"]["ports"][0]["targetPort"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in template["spec"]["volumes"]} == set(mounts)
    arguments = build_parser().parse_args(container["args"])
    assert (arguments.host, arguments.port) == ("0.0.0.0", port)
    assert arguments.api_key_file.startswith(mounts["keys"])


def test_the_units_command_is_one_that_serve_takes():
    unit = (ROOT / "deploy/dalle3-jax.service").read_text()
    [command] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    words = command.split()
    assert words[0].endswith("/bin/dalle3-jax")
    assert words[1] == "serve"
    assert build_parser().parse_args(words[2:]).api_key_file == "/etc/dalle3-jax.keys"


def submitted(folder: Path, code: int, restarts: int = 0) -> tuple[int, list[str], bool]:
    """(Exit code, words that srun got, whether it went back into the queue) of the script where srun ends with code."""
    for name, body in (("srun", f"printf '%s\\n' \"$@\" > words; exit {code}"), ("scontrol", 'echo "$@" > requeued')):
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": str(restarts)}
    command = ["bash", str(ROOT / "deploy/slurm.sh"), "--config", "a b.py:base", "--workdir", "W"]
    done = subprocess.run(command, cwd=folder, env=environment)
    return done.returncode, (folder / "words").read_text().splitlines(), (folder / "requeued").exists()


@pytest.mark.parametrize(
    ("code", "requeued"), [(0, False), (1, False), (2, False), (EXIT_SAVED, True), (EXIT_PEER, True), (EXIT_HUNG, True)]
)
def test_the_slurm_script_goes_back_into_the_queue_when_that_helps(tmp_path, code, requeued):
    ended, words, again = submitted(tmp_path, code)
    assert (ended, again) == (code, requeued)
    assert words[1:] == ["python", "-u", "train.py", "--config", "a b.py:base", "--workdir", "W"]


def test_a_job_that_always_fails_leaves_the_queue_in_the_end(tmp_path):
    assert submitted(tmp_path, EXIT_PEER, restarts=20)[2] is False


def test_slurm_asks_all_tasks_to_stop_before_the_time_is_up():
    assert re.search(r"^#SBATCH --signal=TERM@\d+$", (ROOT / "deploy/slurm.sh").read_text(), re.M)
