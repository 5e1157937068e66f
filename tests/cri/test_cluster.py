"""A whole cluster of one node, used as its owner would: what kubelet alone does not ask for."""

import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import ADDRESS, DNS, Cluster, run_cluster
from tests.support.cri import Cri, run_cri
from tests.support.go_clients import go_program
from tests.support.kubelet import NODE
from tests.support.tools import eventually, long_time

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(600)]

SERVE = "hostname > /tmp/index.html; echo $VERSION >> /tmp/index.html; exec httpd -f -p 8080 -h /tmp"

Box = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with run_cri(tmp_path_factory.mktemp("cri")) as cri:
        cri.crictl("pull", cri.busybox)
        directory = Path(tempfile.mkdtemp(prefix="sk", dir="/tmp"))  # kubelet keeps sockets there
        with run_cluster(cri, directory) as running:
            yield running
        shutil.rmtree(directory)


@pytest.fixture
def cri(cluster: Cluster) -> Cri:
    return cluster.cri


@pytest.fixture
def name(cluster: Cluster, unique: Callable[[str], str]) -> Iterator[str]:
    """A name; whatever is called so is gone after the test."""
    chosen = unique("try")
    yield chosen
    kinds = "deployment,statefulset,daemonset,service,cronjob,job,configmap,secret,pod,serviceaccount"
    kinds += ",clusterrole,clusterrolebinding"
    cluster.kubectl("delete", kinds, f"--selector=test={chosen}", "--grace-period=1")


@pytest.fixture
def box(cluster: Cluster) -> Box:
    """Makes a container that runs a script."""

    def make(script: str, **more: Any) -> dict[str, Any]:
        command = ["sh", "-c", script]
        return {"name": "main", "image": cluster.cri.busybox, "imagePullPolicy": "Never", "command": command, **more}

    return make


def thing(kind: str, name: str, api: str = "v1", **content: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"test": name}}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **content}


def pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return thing("Pod", name, spec={"terminationGracePeriodSeconds": 1, "containers": containers, **spec})


def template(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"test": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": containers, **spec},
    }


def web(name: str, box: Box, version: str, replicas: int) -> dict[str, Any]:
    asked = {"httpGet": {"path": "/index.html", "port": 8080}, "periodSeconds": 1}
    container = box(
        SERVE,
        env=[{"name": "VERSION", "value": version}],
        ports=[{"containerPort": 8080}],
        startupProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 60},
        readinessProbe=asked,
        livenessProbe={"exec": {"command": ["test", "-e", "/tmp/index.html"]}, "periodSeconds": 1},
    )
    spec = {"replicas": replicas, "selector": {"matchLabels": {"test": name}}, "template": template(name, container)}
    return thing("Deployment", name, "apps/v1", spec=spec)


def test_a_deployment_is_rolled_out_scaled_and_rolled_back_behind_its_service(
    cluster: Cluster, name: str, box: Box
) -> None:
    ports = [{"port": 80, "targetPort": 8080}]
    service = thing("Service", name, spec={"type": "NodePort", "selector": {"test": name}, "ports": ports})
    cluster.apply(web(name, box, "one", 2), service)
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=100s")
    found = cluster.get("service", name)["spec"]

    def all_say(version: str) -> bool:
        """Whether the service says that at its own address and at the node's."""
        urls = (f"http://{found['clusterIP']}/", f"http://{ADDRESS}:{found['ports'][0]['nodePort']}/")
        commands = (cluster.cri.namespace.enter("curl", "--silent", "--max-time", "5", url) for url in urls)
        said = [subprocess.run(each, capture_output=True, text=True).stdout.split() for each in commands]
        return [words[-1:] for words in said] == [[version], [version]]

    cluster.until(lambda: all_say("one"), "the service is reached")
    cluster.apply(web(name, box, "two", 2))
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=100s")
    cluster.until(lambda: all_say("two"), "the service leads to the new pods")
    cluster.kubectl("scale", f"deployment/{name}", "--replicas=4")
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=100s")
    cluster.kubectl("rollout", "undo", f"deployment/{name}")
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=100s")
    cluster.until(lambda: all_say("one"), "the service leads to the old ones again")
    assert cluster.get("deployment", name)["status"]["readyReplicas"] == 4


def test_jobs_run_to_their_end_and_a_cron_job_makes_them(cluster: Cluster, name: str, box: Box) -> None:
    work = {"template": template(name, box("echo done"), restartPolicy="Never")}
    job = thing("Job", name, "batch/v1", spec={"completions": 3, "parallelism": 2, **work})
    cron = thing("CronJob", name, "batch/v1", spec={"schedule": "0 0 1 1 *", "jobTemplate": {"spec": work}})
    cluster.apply(job, cron)
    cluster.kubectl("create", "job", f"{name}-now", f"--from=cronjob/{name}")
    cluster.kubectl("wait", "--for=condition=Complete", f"job/{name}", f"job/{name}-now", "--timeout=100s")
    assert cluster.kubectl("logs", f"job/{name}-now") == "done\n"
    cluster.kubectl("delete", "job", f"{name}-now")


def test_volumes_of_every_kind_are_what_they_say(cluster: Cluster, name: str, box: Box, tmp_path: Path) -> None:
    (tmp_path / "there").write_text("host\n")
    volumes: dict[str, dict[str, Any]] = {
        "map": {"configMap": {"name": name, "items": [{"key": "a", "path": "deep/a"}]}},
        "secret": {"secret": {"secretName": name, "defaultMode": 0o400}},
        "memory": {"emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}},
        "host": {"hostPath": {"path": str(tmp_path), "type": "Directory"}},
        "all": {
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
                    {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                    {"configMap": {"name": name}},
                ]
            }
        },
        "image": {"image": {"reference": cluster.cri.busybox, "pullPolicy": "Never"}},
    }
    mounts = [{"name": each, "mountPath": f"/{each}"} for each in volumes]
    mounts.append({"name": "host", "mountPath": "/sub", "subPathExpr": "$(POD)"})
    script = (
        "cat /map/deep/a /secret/b /host/there /all/a; stat -Lc %a /secret/b; test -s /all/token && cat /all/name;"
        "echo; echo $C; grep ' /memory ' /proc/mounts | cut -d' ' -f3; ls /image/bin/busybox; touch /sub/x;"
        f"exec sleep {long_time()}"
    )
    env = [
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": name, "key": "a"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]
    spec = {
        "serviceName": name,
        "replicas": 1,
        "selector": {"matchLabels": {"test": name}},
        "template": template(
            name,
            box(script, env=env, volumeMounts=mounts),
            volumes=[{"name": each, **volume} for each, volume in volumes.items()],
        ),
    }
    cluster.apply(
        thing("ConfigMap", name, data={"a": "mapped\n"}),
        thing("Secret", name, stringData={"b": "hidden\n"}),
        thing("StatefulSet", name, "apps/v1", spec=spec),
    )
    cluster.kubectl("rollout", "status", f"statefulset/{name}", "--timeout=100s")
    said = cluster.kubectl("logs", f"{name}-0").split()
    assert said == ["mapped", "hidden", "host", "mapped", "400", f"{name}-0", "mapped", "tmpfs", "/image/bin/busybox"]
    assert (tmp_path / f"{name}-0/x").exists()
    cluster.apply(thing("ConfigMap", name, data={"a": "changed\n"}))
    cluster.until(
        lambda: cluster.kubectl("exec", f"{name}-0", "--", "cat", "/map/deep/a") == "changed\n", "the map has changed"
    )


def test_kubectl_reaches_into_a_pod(cluster: Cluster, name: str, box: Box, tmp_path: Path) -> None:
    cluster.apply(pod(name, box(f"echo begun; {SERVE}", stdin=True, env=[{"name": "VERSION", "value": "1"}])))
    cluster.ready(name)
    assert cluster.kubectl("exec", "--stdin", name, "--", "cat", input="through\n") == "through\n"
    failed = cluster.kubectl_fails("exec", name, "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (failed.code, failed.stdout) == (7, "out\n")
    assert "err" in failed.stderr
    (tmp_path / "sent").write_bytes(bytes(range(256)) * 4096)
    cluster.kubectl("cp", str(tmp_path / "sent"), f"{name}:/tmp/sent")
    cluster.kubectl("cp", f"{name}:/tmp/sent", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == (tmp_path / "sent").read_bytes()
    forward = subprocess.Popen(cluster.command("port-forward", name, "18080:8080"), stdout=subprocess.PIPE, text=True)
    try:
        assert forward.stdout is not None
        assert "Forwarding from 127.0.0.1:18080" in forward.stdout.readline()
        ask = cluster.cri.namespace.enter("curl", "--silent", "--fail", "http://127.0.0.1:18080/")
        assert subprocess.run(ask, capture_output=True, text=True, timeout=60).stdout.split() == [name, "1"]
    finally:
        forward.terminate()
        forward.communicate()


def test_a_log_is_followed_over_its_rotation_and_a_container_attached_to(cluster: Cluster, name: str, box: Box) -> None:
    lines = [f"line {number} {'x' * 100}" for number in range(5000)]  # more than a file may have
    script = f"seq 0 4999 | sed 's/.*/line & {'x' * 100}/'; while read word; do echo heard $word; done"
    cluster.apply(pod(name, box(script, stdin=True)))
    cluster.ready(name)
    follow = subprocess.Popen(cluster.command("logs", "--follow", name), stdout=subprocess.PIPE, text=True)
    try:
        assert follow.stdout is not None
        assert [follow.stdout.readline() for _ in lines] == [f"{line}\n" for line in lines]
        cluster.until(lambda: len(cluster.kubelet.log_files_of(f"default_{name}", "main")) > 1, "the log is rotated")
        attach = subprocess.Popen(
            cluster.command("attach", "--stdin", "--quiet", name),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        try:
            assert attach.stdin is not None
            assert attach.stdout is not None
            attach.stdin.write("something\n")
            attach.stdin.flush()
            assert "heard something\n" in attach.stdout
        finally:
            attach.kill()
            attach.communicate()
        assert follow.stdout.readline() == "heard something\n"
    finally:
        follow.kill()
        follow.communicate()


def role(role: str, owner: str, made: dict[str, Any]) -> dict[str, Any]:
    """Have an object be found by its role, and be gone after the test of ``owner``."""
    made["metadata"]["labels"] = {"test": owner, "role": role}
    return made


def coredns(name: str, box: Box) -> list[dict[str, Any]]:
    """CoreDNS in a pod, which asks the API server at its service's address with its account's token."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    group = "rbac.authorization.k8s.io"
    whose = [{"kind": "ServiceAccount", "name": name, "namespace": "default"}]
    binding = {"roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name}, "subjects": whose}
    capabilities = {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    server = box(
        "exec /coredns -conf /config/Corefile",
        securityContext={"readOnlyRootFilesystem": True, "capabilities": capabilities},
        readinessProbe={"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        volumeMounts=[{"name": "program", "mountPath": "/coredns"}, {"name": "config", "mountPath": "/config"}],
    )
    volumes = [
        {"name": "program", "hostPath": {"path": str(go_program("coredns")), "type": "File"}},
        {"name": "config", "configMap": {"name": name}},
    ]
    ports = [{"name": each.lower(), "port": 53, "protocol": each} for each in ("UDP", "TCP")]
    more = {"serviceAccountName": name, "dnsPolicy": "Default", "volumes": volumes}
    return [
        thing("ServiceAccount", name),
        thing("ClusterRole", name, f"{group}/v1", rules=rules),
        thing("ClusterRoleBinding", name, f"{group}/v1", **binding),
        thing("ConfigMap", name, data={"Corefile": ".:53 {\nerrors\nready\nkubernetes cluster.local\n}\n"}),
        thing("Service", name, spec={"clusterIP": DNS, "selector": {"test": name, "role": "dns"}, "ports": ports}),
        role("dns", name, pod(name, server, **more)),
    ]


def test_pods_find_each_other_by_name(cluster: Cluster, name: str, box: Box) -> None:
    headless = {"clusterIP": "None", "selector": {"test": name, "role": "web"}, "ports": [{"port": 8080}]}
    site = f"{name}-site"
    cluster.apply(
        *coredns(name, box),
        role("service", name, thing("Service", site, spec=headless)),
        role("web", name, pod(f"{name}-web", box(SERVE), hostname="first", subdomain=site)),
        role("client", name, pod(f"{name}-client", box(f"exec sleep {long_time()}"))),
    )
    for each in (name, f"{name}-web", f"{name}-client"):
        cluster.ready(each)
    ask = ("exec", f"{name}-client", "--", "wget", "-qO-", f"http://first.{site}:8080/")
    cluster.until(lambda: cluster.kubectl_fails(*ask).stdout.startswith("first\n"), "the name leads to the pod")


def test_a_terminal_is_one_of_the_clients_size(cluster: Cluster, name: str, box: Box) -> None:
    cluster.apply(pod(name, box(f"exec sleep {long_time()}")))
    cluster.ready(name)
    script = 'until stty size 2>/dev/null | grep "33 77"; do sleep 0.2; done; tty; exit 3'
    command = shlex.join(cluster.command("exec", "-it", name, "--", "sh", "-c", script))
    sized = ["script", "-qec", f"stty rows 33 cols 77; exec {command}", "/dev/null"]
    done = subprocess.run(sized, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "33 77" in done.stdout
    assert "/dev/pts/0" in done.stdout


def test_a_debugger_joins_the_processes_of_a_container(cluster: Cluster, name: str, box: Box) -> None:
    seconds = long_time()
    cluster.apply(pod(name, box(f"exec sleep {seconds}")))
    cluster.ready(name)
    script = "while ! ps | grep '[s]leep'; do sleep 0.2; done"
    options = ("--target=main", f"--image={cluster.cri.busybox}", "--image-pull-policy=Never", "--container=look")
    cluster.kubectl("debug", name, *options, "--", "sh", "-c", script)

    def ended() -> bool:
        found = cluster.get("pod", name)["status"].get("ephemeralContainerStatuses", [])
        return any("terminated" in one["state"] for one in found)

    cluster.until(ended, "the debugger has looked")
    assert f"sleep {seconds}" in cluster.kubectl("logs", name, "--container=look")


def test_limits_are_changed_while_a_container_runs(cluster: Cluster, name: str, box: Box) -> None:
    limits = {"cpu": "100m", "memory": "64Mi"}
    cluster.apply(pod(name, box(f"exec sleep {long_time()}", resources={"requests": limits, "limits": limits})))
    cluster.ready(name)
    wanted = {"cpu": "200m", "memory": "96Mi"}
    container = {"name": "main", "resources": {"requests": wanted, "limits": wanted}}
    patch = json.dumps({"spec": {"containers": [container]}})
    cluster.kubectl("patch", "pod", name, "--subresource=resize", f"--patch={patch}")

    def has_them() -> bool:
        status = cluster.get("pod", name)["status"]["containerStatuses"][0]
        return bool(status.get("resources", {}).get("limits") == wanted and status["restartCount"] == 0)

    cluster.until(has_them, "the limits are in force")
    shown = json.loads(cluster.cri.crictl("ps", "--label", f"io.kubernetes.pod.name={name}", "--output", "json"))
    status = json.loads(cluster.cri.crictl("inspect", shown["containers"][0]["id"]))["status"]
    assert status["resources"]["linux"]["memoryLimitInBytes"] == str(96 << 20)


def test_a_pod_that_writes_more_than_it_may_is_evicted(cluster: Cluster, name: str, box: Box) -> None:
    mounts = [{"name": "data", "mountPath": "/data"}]
    script = f"dd if=/dev/zero of=/data/x bs=1M count=8 2>/dev/null; exec sleep {long_time()}"
    volumes = [{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]
    cluster.apply(pod(name, box(script, volumeMounts=mounts), volumes=volumes, restartPolicy="Never"))
    cluster.until(lambda: cluster.get("pod", name)["status"].get("reason") == "Evicted", "the pod is evicted", 180)


def test_a_class_of_runtimes_names_its_handler(cluster: Cluster, name: str, box: Box) -> None:
    classes = [thing("RuntimeClass", each, "node.k8s.io/v1", handler=each) for each in ("runc", "nowhere")]
    cluster.apply(*classes)
    script = f"exec sleep {long_time()}"
    cluster.apply(
        pod(name, box(script), runtimeClassName="runc"), pod(f"{name}-2", box(script), runtimeClassName="nowhere")
    )
    cluster.ready(name)
    cluster.until(
        lambda: "runtime_handler is 'nowhere'" in cluster.kubectl("describe", "pod", f"{name}-2"), "kubelet tells why"
    )
    cluster.kubectl("delete", "pod", f"{name}-2", "--grace-period=1")
    cluster.kubectl("delete", "runtimeclass", "runc", "nowhere")


def test_a_port_of_the_host_leads_to_its_pod(cluster: Cluster, name: str, box: Box) -> None:
    cluster.apply(pod(name, box(SERVE, ports=[{"containerPort": 8080, "hostPort": 18081}])))
    cluster.ready(name)
    ask = cluster.cri.namespace.enter("curl", "--silent", "--max-time", "5", f"http://{ADDRESS}:18081/")
    eventually(lambda: name in subprocess.run(ask, capture_output=True, text=True).stdout, "the port is reached", 60)


def test_a_daemon_set_has_the_nodes_network(cluster: Cluster, name: str, box: Box) -> None:
    script = "mkdir /tmp/www; echo node > /tmp/www/index.html; exec httpd -f -p 18082 -h /tmp/www"
    probe = {"tcpSocket": {"port": 18082}, "periodSeconds": 1}
    content = template(name, box(script, readinessProbe=probe), hostNetwork=True)
    spec = {"selector": {"matchLabels": {"test": name}}, "template": content}
    cluster.apply(thing("DaemonSet", name, "apps/v1", spec=spec))
    cluster.kubectl("rollout", "status", f"daemonset/{name}", "--timeout=100s")
    ask = cluster.cri.namespace.enter("curl", "--silent", "--fail", f"http://{ADDRESS}:18082/")
    assert subprocess.run(ask, capture_output=True, text=True, timeout=60).stdout == "node\n"


def test_a_pod_with_users_of_its_own_reads_and_writes_its_volumes(cluster: Cluster, name: str, box: Box) -> None:
    mounts = [{"name": "map", "mountPath": "/map"}, {"name": "data", "mountPath": "/data"}]
    volumes = [{"name": "map", "configMap": {"name": name}}, {"name": "data", "emptyDir": {}}]
    script = f"cut -c1-22 /proc/self/uid_map; cat /map/a; echo > /data/x; stat -c %u /data/x; exec sleep {long_time()}"
    cluster.apply(
        thing("ConfigMap", name, data={"a": "mapped\n"}),
        pod(name, box(script, volumeMounts=mounts), hostUsers=False, volumes=volumes),
    )
    cluster.ready(name)
    inside, outside, *said = cluster.kubectl("logs", name).split()
    assert (inside, said) == ("0", ["mapped", "0"])
    assert int(outside) >= 65536


def test_a_node_is_drained_and_takes_pods_again(cluster: Cluster, name: str, box: Box) -> None:
    cluster.apply(web(name, box, "one", 2))
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=100s")
    cluster.kubectl("drain", NODE, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=100s")
    ready = [one["state"] for one in json.loads(cluster.cri.crictl("pods", "--output", "json"))["items"]]
    assert "SANDBOX_READY" not in ready
    cluster.kubectl("uncordon", NODE)
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=100s")


def test_pods_outlive_every_service_of_the_engine_and_kubelet(cluster: Cluster, name: str, box: Box) -> None:
    cluster.apply(web(name, box, "one", 2))
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=100s")
    selector = f"--selector=test={name}"
    before = [one["status"]["containerStatuses"][0]["containerID"] for one in cluster.get("pod", selector)["items"]]
    for service in ("crid", "runtimed", "snapshotter", "imaged"):
        cluster.cri.engine.kill(service)
    cluster.kubelet.restart()
    cluster.kubectl("scale", f"deployment/{name}", "--replicas=3")
    cluster.kubectl("rollout", "status", f"deployment/{name}", "--timeout=100s")
    after = [one["status"]["containerStatuses"][0] for one in cluster.get("pod", selector)["items"]]
    assert set(before) < {one["containerID"] for one in after}
    assert [one["restartCount"] for one in after] == [0, 0, 0]
