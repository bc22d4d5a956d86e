"""The packets of the other modes' tests, in both families, sent through mode ipvs: the same is expected.

Not here, because a virtual server has one set of targets and takes the node's own packets before table filter does, in
kube-proxy too: pods of the node reach only its endpoints under externalTrafficPolicy Local, and source ranges do not
hold the node back.  `test_packets` says what there is instead.
"""

from __future__ import annotations

from tests.kernel.test_affinity import (  # noqa: F401 # pytest runs them here too
    test_it_outlives_syncs_and_restarts_and_leavers_lose_only_their_own,
)
from tests.kernel.test_detect_local import (  # noqa: F401 # pytest runs them here too
    test_a_pod_reaches_itself_through_every_address,
    test_masquerade_all_with_another_bit,
    test_pods_keep_their_source_and_others_are_masqueraded,
    test_who_is_not_told_is_nobody_special,
)
from tests.kernel.test_external_traffic import (  # noqa: F401 # pytest runs them here too
    test_health_check_ports_pass_a_closed_firewall,
    test_internal_policy_local_without_an_endpoint_here_drops_at_the_cluster_ip,
    test_node_port_addresses_of_each_family,
    test_policy_cluster_reaches_all_endpoints_and_hides_the_client,
    test_policy_local_without_an_endpoint_here_drops_outsiders_only,
    test_without_endpoints_everybody_is_refused,
)
from tests.kernel.test_sctp import (  # noqa: F401 # pytest runs them here too
    test_an_association_reaches_an_endpoint_and_its_flow_ends_with_it,
    test_without_endpoints_an_init_is_refused,
)
from tests.kernel.test_stale_flows import test_the_four_transitions_and_nothing_else  # noqa: F401 # likewise
