from __future__ import annotations

import pytest

from kube_objects import names


@pytest.mark.parametrize("name", ["a", "web-1", "1web", "a" * 63])
def test_good_labels(name: str) -> None:
    assert names.is_dns_label(name) is None


@pytest.mark.parametrize("name", ["", "-a", "a-", "Web", "a.b", "a_b", "a" * 64, "a\n", "\u00e9"])
def test_bad_labels(name: str) -> None:
    assert names.is_dns_label(name)


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("web", True),
        ("web.example-1.com", True),
        ("1.2.3", True),
        ("a" * 253, True),
        ("a" * 254, False),
        ("", False),
        ("a..b", False),
        (".a", False),
        ("a.", False),
        ("a.-b", False),
        ("A.b", False),
        ("a_b", False),
    ],
)
def test_subdomains(name: str, good: bool) -> None:
    assert (names.is_dns_subdomain(name) is None) == good


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("app", True),
        ("app.kubernetes.io/name", True),
        ("A_b.c-D", True),
        ("x" * 63, True),
        ("x" * 64, False),
        ("", False),
        ("/a", False),
        ("a/", False),
        ("a/b/c", False),
        ("UP.io/a", False),
        ("-a", False),
        ("a b", False),
    ],
)
def test_label_keys(name: str, good: bool) -> None:
    assert (names.is_qualified_name(name) is None) == good


@pytest.mark.parametrize(
    ("value", "good"), [("", True), ("v1.2_3-X", True), ("x" * 64, False), ("-a", False), ("a b", False)]
)
def test_label_values(value: str, good: bool) -> None:
    assert (names.is_label_value(value) is None) == good


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("http", True),
        ("a-1", True),
        ("1a", True),
        ("fifteen-letters", True),
        ("sixteen-letters-", False),
        ("sixteen-letters1", False),
        ("", False),
        ("80", False),
        ("a--b", False),
        ("-a", False),
        ("HTTP", False),
    ],
)
def test_port_names(name: str, good: bool) -> None:
    assert (names.is_port_name(name) is None) == good


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("PATH", True),
        ("my.var-1", True),
        ("1 odd%name", True),
        ("", False),
        ("A=B", False),
        ("A\t", False),
        ("\u00e9", False),
    ],
)
def test_environment_names(name: str, good: bool) -> None:
    assert (names.is_env_name(name) is None) == good


@pytest.mark.parametrize(("port", "good"), [(1, True), (65535, True), (0, False), (-1, False), (65536, False)])
def test_port_numbers(port: int, good: bool) -> None:
    assert (names.is_port_number(port) is None) == good
