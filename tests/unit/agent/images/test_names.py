"""Image names as container runtimes read them."""

from __future__ import annotations

import pytest

from agent.images.names import parse_image_name, with_default_tag

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("team/web", "docker.io/team/web"),
        ("localhost/web", "localhost/web"),
        ("localhost:5000/web:v1", "localhost:5000/web:v1"),
        ("registry.example.com/a/b/c", "registry.example.com/a/b/c"),
        ("registry.example.com:443/a@" + DIGEST, "registry.example.com:443/a@" + DIGEST),
        ("web:v1@" + DIGEST, "docker.io/library/web:v1@" + DIGEST),
        ("[fd00::1]:5000/web", "[fd00::1]:5000/web"),
        ("a-b__c/e.d--f", "docker.io/a-b__c/e.d--f"),
    ],
)
def test_names(text: str, full: str) -> None:
    assert str(parse_image_name(text)) == full


@pytest.mark.parametrize(
    ("text", "tagged"),
    [("nginx", "nginx:latest"), ("nginx:1", "nginx:1"), ("h:5000/nginx", "h:5000/nginx:latest"), ("a@" + DIGEST,) * 2],
)
def test_default_tag_is_added_to_the_name_as_written(text: str, tagged: str) -> None:
    assert with_default_tag(text) == tagged


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "invalid reference format"),
        ("Web", "must be lowercase"),
        ("a b", "invalid reference format"),
        ("web:", "invalid reference format"),
        ("web:-x", "invalid reference format"),
        ("web@sha256:1", "invalid reference format"),
        ("web@", "invalid reference format"),
        ("/web", "invalid reference format"),
        ("https://example.com/web", "invalid reference format"),
        ("a" * 64, "64-byte hexadecimal"),
        ("x/" + "b" * 260, "more than 255"),
        ("a_b.c/web", "invalid reference format"),
    ],
)
def test_refused(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        parse_image_name(text)
