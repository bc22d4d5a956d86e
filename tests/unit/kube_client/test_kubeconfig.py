"""A kubeconfig is read as client-go reads it, and what is wrong is named with file, line and field."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from kube_client.config import ConfigError
from kube_client.credentials import load_identity
from kube_client.in_cluster import in_cluster_config
from kube_client.kubeconfig import parse_kubeconfig, read_kubeconfig

PATH = Path("/etc/kubernetes/proxy.conf")
TEXT = """\
apiVersion: v1
kind: Config
current-context: here
contexts:
- name: here
  context: {cluster: c, user: u}
clusters:
- name: c
  cluster:
    server: https://10.0.0.1:6443/
    CLUSTER
users:
- name: u
  user:
    USER
"""


def text(cluster: str = "insecure-skip-tls-verify: false", user: str = "token: abc") -> bytes:
    return TEXT.replace("CLUSTER", cluster).replace("USER", user).encode()


def data(pem: str) -> str:
    return base64.b64encode(pem.encode()).decode()


def test_files_are_beside_the_kubeconfig_and_data_comes_before_them() -> None:
    cluster = f"certificate-authority: pki/ca.crt\n    certificate-authority-data: {data('CA')}"
    user = "client-certificate: client.crt\n    client-key: /keys/client.key\n    tokenFile: token\n    token: t"
    config = parse_kubeconfig(text(cluster, user), PATH)
    assert config.servers == ("https://10.0.0.1:6443",)
    assert config.ca is not None
    assert config.certificate is not None
    assert config.key is not None
    assert (config.ca.data, config.ca.path) == (b"CA", None)
    assert config.certificate.path == Path("/etc/kubernetes/client.crt")
    assert config.key.path == Path("/keys/client.key")
    assert (config.token, config.token_file) == ("t", Path("/etc/kubernetes/token"))
    assert "CA" not in repr(config)


def test_several_servers() -> None:
    several = text().replace(b"https://10.0.0.1:6443/", b'"https://a:6443, https://[fd00::1]:6443"')
    assert parse_kubeconfig(several, PATH).servers == ("https://a:6443", "https://[fd00::1]:6443")


def test_what_has_no_effect_is_told() -> None:
    config = parse_kubeconfig(text(user="token: t\n    tokenfile: x\n    disable-compression: true"), PATH)
    told = f"{PATH}:16: users[0].user.tokenfile: unknown field, which has no effect"
    assert config.warnings[0].startswith(told)
    assert "tokenFile" in config.warnings[0]
    assert len(config.warnings) == 2
    assert parse_kubeconfig(text("disable-compression: true"), PATH).compressed is False


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"a: [", "proxy.conf:2: not valid YAML"),
        (b"a: b\n---\nc: d", "must hold one kubeconfig"),
        (text().replace(b"kind: Config", b"kind: Pod"), ":2: kind: must be Config, not 'Pod'"),
        (text().replace(b"current-context: here", b""), "current-context: required field is missing"),
        (
            text().replace(b"current-context: here", b"current-context: her"),
            ":4: contexts: has no 'her'",
        ),
        (text().replace(b"cluster: c, ", b"cluster: d, "), ":7: clusters: has no 'd', which the context's cluster"),
        (text().replace(b"user: u", b"user: v"), "users: has no 'v'"),
        (text().replace(b"https://10.0.0.1:6443/", b"10.0.0.1:6443"), ":10: clusters[0].cluster.server: '10.0.0.1:"),
        (text().replace(b"https://10.0.0.1:6443/", b"https://u:p@h/"), "is not a URL"),
        (text().replace(b"https://10.0.0.1:6443/", b"https://h:99999/"), "is not a URL"),
        (text("proxy-url: http://p:3128"), ":11: clusters[0].cluster.proxy-url: proxies are not supported"),
        (text("certificate-authority-data: '*'"), "certificate-authority-data: is not base64"),
        (
            text("insecure-skip-tls-verify: true\n    certificate-authority: ca"),
            "insecure-skip-tls-verify: must not be true where",
        ),
        (text("insecure-skip-tls-verify: yes please"), "must be true or false"),
        (text(user="client-certificate: c"), ":15: users[0].user.client-certificate: needs client-key"),
        (text(user=f"client-key-data: {data('k')}"), "users[0].user.client-key-data: needs client-certificate"),
        (text(user="exec: {command: x}"), ":15: users[0].user.exec: credential plugins are not run"),
        (text(user="auth-provider: {name: gcp}"), "auth-provider: is gone"),
        (text(user="username: u\n    password: p"), "username: basic authentication is gone"),
        (text(user="token: t\n    as: root"), "users[0].user.as: impersonation is not supported"),
        (text(user="token: 5"), "users[0].user.token: must be a string, not 5"),
    ],
)
def test_bad_input_is_named(config: bytes, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_kubeconfig(config, PATH)
    assert str(caught.value).startswith(str(PATH))
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read kubeconfig .*: No such file"):
        read_kubeconfig(tmp_path / "none")


@pytest.mark.parametrize(
    ("cluster", "user", "message"),
    [
        ("certificate-authority: ca.crt", "token: t", "certificate-authority .*/ca.crt: cannot be read: No such file"),
        (f"certificate-authority-data: {data('x')}", "token: t", "holds no certificate authority"),
        (
            "",
            f"client-certificate-data: {data('c')}\n    client-key-data: {data('k')}",
            "not a certificate and",
        ),
        ("", "tokenFile: none", "cannot read tokenFile .*/none: No such file"),
    ],
)
def test_credentials_that_cannot_be_used_are_named(tmp_path: Path, cluster: str, user: str, message: str) -> None:
    config = parse_kubeconfig(text(cluster, user), tmp_path / "kubeconfig")
    with pytest.raises(ConfigError, match=message):
        load_identity(config)


def test_inside_a_pod(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    assert in_cluster_config(environment, tmp_path) is None
    (tmp_path / "token").write_text("t")
    assert in_cluster_config({}, tmp_path) is None
    config = in_cluster_config(environment, tmp_path)
    assert config is not None
    assert config.servers == ("https://[fd00::1]:443",)
    assert config.token_file == tmp_path / "token"
