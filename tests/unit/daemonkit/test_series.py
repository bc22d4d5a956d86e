"""Series as Prometheus reads them."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from daemonkit.series import Series, label_text

KINDS = (("counter", "a_total", "How many."), ("gauge", "b", "How much."), ("gauge", "c", "Nothing."))


def test_what_is_written_is_read_again() -> None:
    odd = 'quote " backslash \\ and\nline'
    series = Series(KINDS)
    series.add("a_total", label_text({"x": odd, "y": ""}), 3, 2.5)
    series.add("b", label_text({"x": "1"}), 0.25)
    series.add("b", label_text({"x": "2"}), None)
    series.add("b", label_text({"x": "3"}), 1e20)
    families = {one.name: one for one in text_string_to_metric_families(series.text().decode())}
    assert {name: (one.type, one.documentation) for name, one in families.items()} == {
        "a": ("counter", "How many."),
        "b": ("gauge", "How much."),
    }
    (first,) = families["a"].samples
    assert (first.name, first.labels, first.value, first.timestamp) == ("a_total", {"x": odd, "y": ""}, 3.0, 2.5)
    assert [(one.labels["x"], one.value, one.timestamp) for one in families["b"].samples] == [
        ("1", 0.25, None),
        ("3", 1e20, None),
    ]


def test_bytes_of_a_path_that_are_no_text_spoil_nothing_else() -> None:
    series = Series(KINDS)
    for device in ("/dev/\udcff", "/dev/sda"):
        series.add("b", label_text({"x": device}), 1)
    (family,) = text_string_to_metric_families(series.text().decode())
    assert [one.labels["x"] for one in family.samples] == ["/dev/?", "/dev/sda"]
