"""The question for a table is the one that pyroute2 would ask."""

from __future__ import annotations

import struct

from pyroute2.netlink.nfnetlink.nftsocket import nft_table_msg

from proxy.nftables.tables import question


def test_the_question_is_the_message_of_pyroute2() -> None:
    message = nft_table_msg()
    message["nfgen_family"] = 10
    message["attrs"] = [("NFTA_TABLE_NAME", "kube-proxy")]
    message.encode()
    ours = question(6, "kube-proxy")
    assert ours[16:] == bytes(message.data[16:])
    assert struct.unpack_from("=IHH", ours) == (len(ours), 10 << 8 | 1, 1)
