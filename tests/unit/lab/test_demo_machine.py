from ipaddress import IPv4Network

import pytest

from lab.demo_machine import free_subnets
from lab.machine import LabError


def test_free_subnets_overlap_nothing_that_is_routed() -> None:
    taken = [IPv4Network("10.213.0.0/16"), IPv4Network("10.214.119.77/32"), IPv4Network("192.0.2.0/24")]
    assert free_subnets(taken, 2) == [IPv4Network("10.215.119.0/24"), IPv4Network("10.216.119.0/24")]


def test_no_free_subnet_is_an_error_that_says_so() -> None:
    with pytest.raises(LabError, match="cannot choose addresses"):
        free_subnets([IPv4Network("10.0.0.0/8")], 2)
