"""Every message and enum of CRI v1 as a frozen dataclass: the vocabulary between the agent and a runtime. Pure.

Before this comes `agent.container_spec` (which builds them) or `convert` (which reads them off the wire); after it
comes `protocols`. Names and fields are those of the proto, in its order. A message that can be absent is `X | None`, a
repeated field a tuple, a map a Mapping; every field has the proto's zero value as its default. The parts live in
`cri_client.messages`, this module is the one name to import them from.
Source: k8s.io/cri-api, pkg/apis/runtime/v1/api.proto.
"""

from cri_client.messages.common import *  # noqa: F403 - the parts are this module
from cri_client.messages.container_calls import *  # noqa: F403 - the parts are this module
from cri_client.messages.containers import *  # noqa: F403 - the parts are this module
from cri_client.messages.enums import *  # noqa: F403 - the parts are this module
from cri_client.messages.image_calls import *  # noqa: F403 - the parts are this module
from cri_client.messages.images import *  # noqa: F403 - the parts are this module
from cri_client.messages.pod_calls import *  # noqa: F403 - the parts are this module
from cri_client.messages.pods import *  # noqa: F403 - the parts are this module
from cri_client.messages.runtime import *  # noqa: F403 - the parts are this module
from cri_client.messages.runtime_calls import *  # noqa: F403 - the parts are this module
from cri_client.messages.stats import *  # noqa: F403 - the parts are this module
from cri_client.messages.windows import *  # noqa: F403 - the parts are this module
from cri_client.messages.windows_stats import *  # noqa: F403 - the parts are this module
