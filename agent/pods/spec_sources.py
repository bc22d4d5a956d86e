"""What the messages of a pod depend on besides the pod: the configuration, the node, the objects beside it, and an API
server where there is one.

Before: `settings_keeper` replaces configuration and facts of the node when they are read again, `workers` and
`agent/cluster` bring the objects. Next: `execute` and `host_steps` make the CRI's messages and the volumes with the
`SpecFacts` of here. Effects: a pod with users of its own gets its range of them on disk, and tokens are asked for.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Protocol

from lightkube.models.core_v1 import Pod

from agent.cgroups.names import pod_cgroup_parent
from agent.config import AgentConfig
from agent.container_spec.facts import HandlerFacts, NodeFacts, SpecFacts, TokenKey
from agent.container_spec.labels import API_SOURCE, FILE_SOURCE, is_from_api, uid_of
from agent.container_spec.paths import volumes_dir
from agent.container_spec.references import config_references
from agent.container_spec.trust_bundles import TrustBundles
from agent.pods.user_ranges import UserRanges
from agent.sources.runtime_class import handler_of
from kube_objects.config_data import ConfigObjects, ObjectKey, ObjectPending

_NO_TRUST_BUNDLES = "ClusterTrustBundle projection needs the feature gate ClusterTrustBundleProjection, which is off"


class Cluster(Protocol):
    """What an API server gives to pods besides their objects; a node of its own has none."""

    async def tokens_of(self, pod: Pod) -> Mapping[TokenKey, bytes | str]:
        """Those that its volumes want; as str why there is none."""
        ...

    def service_variables(self, pod: Pod) -> Mapping[str, str]:
        """What tells its containers of the Services around it."""
        ...

    def trust_bundles_of(self, pod: Pod) -> TrustBundles:
        """Those that its volumes may choose from."""
        ...


class SpecSources:
    """Of one node. `config` and `node` may be replaced when the configuration is reread.

    The local ConfigMaps and Secrets are for the pods of manifests, an API server's for its own pods.
    `user_ranges` are those of the pods with users of their own.
    """

    def __init__(self, config: AgentConfig, node: NodeFacts) -> None:
        self.config = config
        self.node = node
        self.cluster: Cluster | None = None
        self._objects: dict[str, ConfigObjects] = {}
        self.user_ranges = UserRanges(str(config.root_dir))

    @property
    def root_dir(self) -> str:
        """Where the agent keeps everything."""
        return str(self.config.root_dir)

    def learn_objects(self, objects: ConfigObjects, source: str) -> frozenset[ObjectKey]:
        """The ConfigMaps and Secrets of a source as they are now; which are not what they were."""
        changed = objects.differing(self._objects.get(source, ConfigObjects()))
        self._objects[source] = objects
        return changed

    def objects_of(self, pod: Pod) -> ConfigObjects:
        """What the pod may refer to."""
        return self._objects.get(API_SOURCE if is_from_api(pod) else FILE_SOURCE, ConfigObjects())

    def handler_facts(self, pod: Pod) -> HandlerFacts:
        """What the runtime's handler of the pod can do: nothing where there is no such handler."""
        try:
            name = handler_of(pod, self.objects_of(pod)) or ""
        except ObjectPending:
            return HandlerFacts()
        return self.node.runtime.handlers.get(name, HandlerFacts())

    def facts(self, pod: Pod) -> SpecFacts:
        """As they are now; without the pod's addresses. Raises SpecError, ObjectPending."""
        config = self.config
        return SpecFacts(
            node=self.node,
            root_dir=self.root_dir,
            pod_logs_dir=str(config.pod_logs_dir),
            cgroup_parent=pod_cgroup_parent(config, pod),
            cgroup_driver=config.cgroup_driver,
            cluster_dns=tuple(config.cluster_dns),
            cluster_domain=config.cluster_domain,
            seccomp_default=config.seccomp_default,
            cpu_cfs_quota=config.cpu_cfs_quota,
            single_process_oom_kill=config.single_process_oom_kill,
            swap_behavior=config.swap_behavior,
            memory_qos=config.memory_qos,
            user_range=self._user_range(pod),
            objects=self.objects_of(pod),
            service_variables=self.cluster.service_variables(pod) if self.cluster is not None else {},
            handler=self.handler_facts(pod),
        )

    def await_objects(self, pod: Pod) -> None:
        """A pod begins when all that it will ask for has come. Raises ObjectPending."""
        if not os.path.lexists(volumes_dir(self.root_dir, uid_of(pod))):
            for key in sorted(config_references(pod)):
                self.objects_of(pod).find(*key)

    async def facts_of_volumes(self, pod: Pod) -> SpecFacts:
        """The same with the tokens and the trust bundles that its volumes hold."""
        facts = self.facts(pod)
        if self.cluster is None or not is_from_api(pod):
            return facts
        trust = self.cluster.trust_bundles_of(pod) if self.config.cluster_trust_bundles else _NO_TRUST_BUNDLES
        return dataclasses.replace(facts, tokens=await self.cluster.tokens_of(pod), trust_bundles=trust)

    def _user_range(self, pod: Pod) -> int | None:
        if pod.spec is None or pod.spec.hostUsers is not False:
            return None
        return self.user_ranges.claim(uid_of(pod), self.config.max_pods)
