"""What the agent does with each field of a static pod's manifest, and of a pod of an API server: the one table of it.

Pure.  Before: kube_objects.manifest has refused unknown fields.  Next: validation.py refuses by this table what the
agent cannot honour, so that no field is ever ignored in silence; `make docs` writes docs/pod-support.md from it (a test
compares).  A field of the API that is not listed is refused as "not supported yet".  Paths are written as
`spec.containers[].image`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from daemonkit.yaml_text import Path


class Verdict(enum.Enum):
    """What happens to a field that is set."""

    USED = "used"
    WITHOUT_EFFECT = "accepted, without effect here"
    REFUSED = "refused"


@dataclass(frozen=True)
class Rule:
    """One line of the table: `note` is the reason, `values` the only values accepted (empty: any)."""

    verdict: Verdict
    note: str = ""
    values: tuple[object, ...] = ()


_NEEDS_API = "needs an API server"
_NOT_YET = "not supported yet"
# The API's types we decode with are of a newer release.
_NEWER = re.compile(
    r"spec\.(evictionResponders"
    r"|\w*[cC]ontainers\[\]\.(\w+Probe|lifecycle\.\w+)\.(httpGet\.protocol|grpc\.mode)"
    r"|\w*[cC]ontainers\[\]\.volumeMounts\[\]\.bindMountOptions"
    r"|volumes\[\]\.(emptyDir\.mode|(configMap|secret|downwardAPI|projected)\.(.*\.)?(defaultUser|user)))\Z"
)


def _used(*names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, Rule(Verdict.USED))


def _idle(note: str, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, Rule(Verdict.WITHOUT_EFFECT, note))


def _refused(note: str, *names: str) -> dict[str, Rule]:
    return dict.fromkeys(names, Rule(Verdict.REFUSED, note))


def _under(prefix: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    return {f"{prefix}.{name}": rule for name, rule in rules.items()}


_PROFILES = {
    **_used("seccompProfile.type", "seccompProfile.localhostProfile"),
    **_used("appArmorProfile.type", "appArmorProfile.localhostProfile"),
    **_used("seLinuxOptions.user", "seLinuxOptions.role", "seLinuxOptions.type", "seLinuxOptions.level"),
    **_refused("this node runs Linux", "windowsOptions"),
}

_GRACE = "terminationGracePeriodSeconds"
_PROBE = _used(
    "exec.command",
    "httpGet.host",
    "httpGet.httpHeaders",
    "httpGet.path",
    "httpGet.port",
    "httpGet.scheme",
    "tcpSocket.host",
    "tcpSocket.port",
    "grpc.port",
    "grpc.service",
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
    _GRACE,
)

_CONTAINER_SECURITY = {
    **_used(
        "allowPrivilegeEscalation",
        "capabilities.add",
        "capabilities.drop",
        "privileged",
        "readOnlyRootFilesystem",
        "runAsGroup",
        "runAsNonRoot",
        "runAsUser",
    ),
    **_used("procMount"),
    **_PROFILES,
}

_CONTAINER = {
    **_used("name", "image", "imagePullPolicy", "command", "args", "workingDir", "stdin", "stdinOnce", "tty"),
    **_used("terminationMessagePath", "terminationMessagePolicy", "resources.limits", "resources.requests"),
    **_used("env[].name", "env[].value", "env[].valueFrom.fieldRef", "env[].valueFrom.resourceFieldRef"),
    **_under("env[].valueFrom.configMapKeyRef", _used("name", "key", "optional")),
    **_under("env[].valueFrom.secretKeyRef", _used("name", "key", "optional")),
    **_used("envFrom[].prefix", "envFrom[].configMapRef.name", "envFrom[].configMapRef.optional"),
    **_used("envFrom[].secretRef.name", "envFrom[].secretRef.optional"),
    **_refused(f"static pods may not reference resourceclaims ({_NEEDS_API})", "resources.claims"),
    **_used("ports[].name", "ports[].containerPort", "ports[].hostPort", "ports[].hostIP", "ports[].protocol"),
    **_used("volumeMounts[].name", "volumeMounts[].mountPath", "volumeMounts[].readOnly"),
    **_used("volumeMounts[].mountPropagation", "volumeMounts[].subPath", "volumeMounts[].subPathExpr"),
    **_used("volumeMounts[].recursiveReadOnly"),
    **_used("resizePolicy[].resourceName", "resizePolicy[].restartPolicy"),
    **_under("securityContext", _CONTAINER_SECURITY),
}

_PROBES = {
    **_under("livenessProbe", _PROBE),
    **_under("readinessProbe", {name: rule for name, rule in _PROBE.items() if name != _GRACE}),
    **_refused("must not be set for readinessProbe", f"readinessProbe.{_GRACE}"),
    **_under("startupProbe", _PROBE),
}

_HOOK = {
    **_used("exec.command", "httpGet.host", "httpGet.httpHeaders", "httpGet.path", "httpGet.port", "httpGet.scheme"),
    **_used("sleep.seconds"),
    **_refused("no node agent can run it as a hook", "tcpSocket"),
}

_ITEMS = _used("items[].key", "items[].path", "items[].mode")
_POD_ITEMS = _used(
    "items[].path",
    "items[].mode",
    "items[].fieldRef.apiVersion",
    "items[].fieldRef.fieldPath",
    "items[].resourceFieldRef.containerName",
    "items[].resourceFieldRef.resource",
    "items[].resourceFieldRef.divisor",
)

_VOLUME = {
    **_under("configMap", {**_used("name", "optional", "defaultMode"), **_ITEMS}),
    **_under("secret", {**_used("secretName", "optional", "defaultMode"), **_ITEMS}),
    **_under("downwardAPI", {**_used("defaultMode"), **_POD_ITEMS}),
    **_used("projected.defaultMode", "image.reference", "image.pullPolicy"),
    **_under("projected.sources[].configMap", {**_used("name", "optional"), **_ITEMS}),
    **_under("projected.sources[].secret", {**_used("name", "optional"), **_ITEMS}),
    **_under("projected.sources[].downwardAPI", _POD_ITEMS),
    **_refused(_NEEDS_API, "projected.sources[].serviceAccountToken", "projected.sources[].clusterTrustBundle"),
    **_refused(_NEEDS_API, "projected.sources[].podCertificate"),
    **_refused("gitRepo volumes run programs of their content on the node (CVE-2024-10220)", "gitRepo"),
}

_LIFECYCLE = {
    **_under("lifecycle.postStart", _HOOK),
    **_under("lifecycle.preStop", _HOOK),
    **_used("lifecycle.stopSignal"),
    **_used("restartPolicy", "restartPolicyRules"),
}

_SPEC = {
    **_under("containers[]", {**_CONTAINER, **_PROBES, **_LIFECYCLE}),
    **_under("initContainers[]", {**_CONTAINER, **_PROBES, **_LIFECYCLE}),
    **_used("activeDeadlineSeconds", "readinessGates"),
    **_used("restartPolicy", "terminationGracePeriodSeconds", "dnsPolicy", "dnsConfig", "hostAliases", "hostname"),
    **_used("subdomain", "setHostnameAsFQDN", "hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"),
    **_used("resources.limits", "resources.requests"),
    **_used("nodeSelector", "os.name", "priorityClassName", "priority"),
    **_used("securityContext.runAsUser", "securityContext.runAsGroup", "securityContext.runAsNonRoot"),
    **_used("securityContext.supplementalGroups", "securityContext.sysctls"),
    **_used("securityContext.supplementalGroupsPolicy"),
    **_used("securityContext.fsGroup"),
    **_idle("matters to volumes of storage drivers only", "securityContext.fsGroupChangePolicy"),
    **_under("securityContext", _PROFILES),
    **_used("volumes[].name", "volumes[].emptyDir.sizeLimit", "volumes[].hostPath.path", "volumes[].hostPath.type"),
    **_used("volumes[].emptyDir.medium", "volumes[].nfs.server", "volumes[].nfs.path", "volumes[].nfs.readOnly"),
    **_used("hostUsers", "runtimeClassName"),
    **_idle("there are no Services to link without an API server", "enableServiceLinks"),
    **_idle("there are no tokens without an API server", "automountServiceAccountToken"),
    **_idle("the pod is always for this node", "nodeName"),
    **_idle("matters to schedulers only", "schedulerName", "preemptionPolicy", "topologySpreadConstraints"),
    **_idle("a static pod stays whatever the taints of its node are", "tolerations"),
    **_idle("matters to schedulers only", "affinity.podAffinity", "affinity.podAntiAffinity"),
    **_idle("matters to schedulers only", "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution"),
    **_refused(f"static pods may not reference serviceaccounts ({_NEEDS_API})", "serviceAccountName", "serviceAccount"),
    **_under("volumes[]", _VOLUME),
    **_used("imagePullSecrets[].name"),
    **_refused(f"static pods may not reference resourceclaims ({_NEEDS_API})", "resourceClaims", "resources.claims"),
    **_refused(
        f"static pods may not reference persistentvolumeclaims ({_NEEDS_API})",
        "volumes[].persistentVolumeClaim",
        "volumes[].ephemeral",
    ),
    **_refused(f"static pods may not reference csidrivers ({_NEEDS_API})", "volumes[].csi"),
    **_refused(_NEEDS_API, "schedulingGates"),
    **_refused("only a pod that runs may get them: longshore debug", "ephemeralContainers"),
}

_BOOKKEEPING = "an API server's bookkeeping"

RULES: Mapping[str, Rule] = {
    **_used("apiVersion", "kind", "metadata.name", "metadata.namespace", "metadata.labels", "metadata.annotations"),
    **_used("metadata.generation"),
    **_refused("the uid of a static pod is computed from its content", "metadata.uid"),
    **_idle(_BOOKKEEPING, "metadata.creationTimestamp", "metadata.managedFields"),
    **_idle(_BOOKKEEPING, "metadata.resourceVersion", "metadata.selfLink", "metadata.ownerReferences"),
    **_idle("the agent computes it", "status"),
    **_under("spec", _SPEC),
}

API_RULES: Mapping[str, Rule] = {
    **RULES,
    **_under(
        "spec",
        {
            **_used("serviceAccountName", "serviceAccount", "automountServiceAccountToken", "enableServiceLinks"),
            **_used("nodeName", "overhead", "ephemeralContainers", "volumes[].projected.sources[].serviceAccountToken"),
            **_used("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"),
            **_idle("matters to schedulers only", "schedulingGates"),
            **_refused(_NOT_YET, "resourceClaims", "resources.claims"),
            **_refused(_NOT_YET, "containers[].resources.claims", "initContainers[].resources.claims"),
            **_used("volumes[].persistentVolumeClaim", "volumes[].ephemeral", "securityContext.fsGroupChangePolicy"),
            **_refused(_NOT_YET, "volumes[].csi"),
            **_used("volumes[].projected.sources[].clusterTrustBundle"),
            **_refused(_NOT_YET, "volumes[].projected.sources[].podCertificate"),
        },
    ),
}
"""For a pod that an API server has let in and a scheduler has sent here."""


def _inner(rules: Mapping[str, Rule]) -> frozenset[str]:
    return frozenset(
        name[:end] for name in rules for end in range(len(name)) if name[end] == "." or name.startswith("[]", end)
    )


_INNER = {id(rules): _inner(rules) for rules in (RULES, API_RULES)}


def rule_of(name: str, inherited: Rule | None = None, rules: Mapping[str, Rule] = RULES) -> Rule | None:
    """The rule for a field, `inherited` being that of what contains it; None where only its parts have rules."""
    if _NEWER.match(name):
        return Rule(Verdict.REFUSED, "newer than Kubernetes 1.36")
    rule = inherited or rules.get(name)
    return rule if rule is not None or name in _INNER[id(rules)] else Rule(Verdict.REFUSED, _NOT_YET)


def needs_cluster(rule: Rule) -> bool:
    """Whether the field is refused because a static pod has no API server behind it."""
    return rule.verdict is Verdict.REFUSED and _NEEDS_API in rule.note


def unsupported_fields(value: object) -> Iterator[tuple[Path, str]]:
    """Every field of a decoded document that the table refuses, with the reason.

    Empty lists and nulls count as absent.
    """
    yield from _walk(value, (), "", None, RULES)


def unsupported_in_cluster(spec: object) -> Iterator[tuple[Path, str]]:
    """The same of a PodSpec that an API server has let in."""
    yield from _walk(spec, ("spec",), "spec", None, API_RULES)


def _walk(
    value: object, path: Path, name: str, inherited: Rule | None, rules: Mapping[str, Rule]
) -> Iterator[tuple[Path, str]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, (*path, index), f"{name}[]", inherited, rules)
    elif isinstance(value, dict):
        for key, item in value.items():
            if item is None or item == [] or item == "":
                continue
            yield from _check(item, (*path, key), f"{name}.{key}" if name else key, inherited, rules)


def _check(
    value: object, path: Path, name: str, inherited: Rule | None, rules: Mapping[str, Rule]
) -> Iterator[tuple[Path, str]]:
    rule = rule_of(name, inherited, rules)
    if rule is None:
        yield from _walk(value, path, name, None, rules)
    elif rule.verdict is Verdict.REFUSED:
        yield path, rule.note
    elif rule.values and value not in rule.values:
        allowed = " or ".join(repr(one) for one in rule.values if one != "")
        yield path, f"{value!r} is {_NOT_YET}, only {allowed}" + (f" ({rule.note})" if rule.note else "")
    elif rule.verdict is Verdict.USED:
        yield from _walk(value, path, name, rule, rules)
