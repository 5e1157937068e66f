"""What of ``daemon.json`` there is nothing to translate into: because the engine is that way anyhow, or never."""

from collections.abc import Mapping
from typing import Final

# The engine's default, or how it is in any case: these say nothing new.
ANYHOW: Final[Mapping[str, tuple[object, ...]]] = {
    "icc": (True,), "ip-forward": (True,), "ip-masq": (True,), "iptables": (True,), "live-restore": (True,),
    "ip6tables": (True,), "ipv6": (False,), "userland-proxy": (True,), "experimental": (False,), "init": (False,),
    "selinux-enabled": (False,), "raw-logs": (False,), "bridge": ("", "docker0"),
    "mtu": (0, 1500), "exec-opts": ([],), "storage-opts": ([],), "labels": ([],),
    "seccomp-profile": ("", "builtin"), "userns-remap": ("",), "cgroup-parent": ("",), "oom-score-adjust": (0,),
    "debug": (False,), "tls": (False,), "tlsverify": (False,), "swarm-default-advertise-addr": ("",),
    "node-generic-resources": ([],), "allow-nondistributable-artifacts": ([],), "api-cors-header": ("",),
    "firewall-backend": ("", "nftables"), "log-level": ("",), "rootless": (False,), "cri-containerd": (False,),
    "ip-forward-no-drop": (False,), "allow-direct-routing": (False,), "bridge-accept-fwmark": ("",),
    "cpu-rt-period": (0,), "cpu-rt-runtime": (0,), "network-diagnostic-port": (0,), "resolv-conf": ("",),
    "default-init": ("",), "pidfile": ("",), "data-root": ("",), "exec-root": ("",), "group": ("",),
    "default-runtime": ("",), "log-driver": ("",), "ip": ("", "0.0.0.0"), "metrics-addr": ("",),
    "default-ipc-mode": ("",), "default-cgroupns-mode": ("",), "host-gateway-ip": ("",), "init-path": ("",),
    **dict.fromkeys(
        ("bip", "bip6", "fixed-cidr", "fixed-cidr-v6", "default-gateway", "default-gateway-v6", "apparmor-profile",
         "containerd", "containerd-namespace", "containerd-plugin-namespace", "userland-proxy-path"), ("",),
    ),
}  # fmt: skip

_NO_SWARM: Final = "there is no swarm"
_NO_CONTAINERD: Final = "there is no containerd"
_NFTABLES: Final = "the engine keeps nftables tables of its own, and does not work without them"
_DEPRECATED: Final = "dockerd itself does nothing with it any more"

# Why there is nothing to translate them into, and what to do instead where something can be done.
WITHOUT: Final[Mapping[str, str]] = {
    "data-root": "the engine keeps its own format elsewhere: sampan --data-root; images come along by docker save",
    "exec-root": "sampan --run-root",
    "pidfile": "the run root says who runs there",
    "containerd": _NO_CONTAINERD, "containerd-namespace": _NO_CONTAINERD, "cri-containerd": "sampan up --cri has crid",
    "containerd-plugin-namespace": _NO_CONTAINERD, "containerd-plugins-namespace": _NO_CONTAINERD,
    "iptables": _NFTABLES, "ip6tables": _NFTABLES, "firewall-backend": _NFTABLES,
    "ip-forward": "the engine routes what containers send, and switches that on",
    "ip-forward-no-drop": "the engine leaves the policy of the chain FORWARD as it finds it",
    "allow-direct-routing": "say it of a network: --opt com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected",
    "bridge-accept-fwmark": "say it of a network: --opt com.docker.network.bridge.trusted_host_interfaces=eth1",
    "bridge": "the engine makes the default bridge itself; containers without a network are made with --network none",
    "userland-proxy": "the engine forwards published ports by rules, and carries by itself what they do not reach",
    "userland-proxy-path": "the engine has no such program",
    "experimental": "there is nothing of the kind",
    "network-control-plane-mtu": _NO_SWARM, "swarm-default-advertise-addr": _NO_SWARM,
    "swarm-raft-heartbeat-tick": _NO_SWARM, "swarm-raft-election-tick": _NO_SWARM, "node-generic-resources": _NO_SWARM,
    "network-diagnostic-port": _NO_SWARM,
    "selinux-enabled": "the engine sets no SELinux labels",
    "apparmor-profile": "name a profile with each container: --security-opt apparmor=NAME",
    "oom-score-adjust": "it is the unit's: systemctl edit sampan, OOMScoreAdjust=",
    "storage-opts": "the engine's drivers have none of dockerd's options",
    "raw-logs": "logs have no colours: see log_format",
    "cpu-rt-period": "give them to each container: --cpu-rt-period", "cpu-rt-runtime": "likewise: --cpu-rt-runtime",
    "rootless": "the engine runs as root",
    "resolv-conf": "the host's /etc/resolv.conf is meant: give name servers as dns",
    "default-init": "see init-path",
    "nri-opts": "the engine has no NRI plugins",
    "min-api-version": "clients from API version 1.24 on are answered",
    "api-cors-header": _DEPRECATED, "allow-nondistributable-artifacts": _DEPRECATED, "deprecated-key-path": _DEPRECATED,
    "cluster-store": _DEPRECATED, "cluster-store-opts": _DEPRECATED, "cluster-advertise": _DEPRECATED,
    "graph": _DEPRECATED, "disable-legacy-registry": _DEPRECATED,
    "http-proxy": "dockerd takes it below proxies alone", "https-proxy": "dockerd takes it below proxies alone",
    "no-proxy": "dockerd takes it below proxies alone",
}  # fmt: skip
