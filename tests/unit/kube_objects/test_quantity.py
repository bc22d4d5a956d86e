from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kube_objects.quantity import bytes_text, milli_text, parse_quantity


@pytest.mark.parametrize(
    ("text", "value", "milli", "whole"),
    [
        ("0", "0", 0, 0),
        ("100m", "0.1", 100, 1),
        ("0.5", "0.5", 500, 1),
        ("2", "2", 2000, 2),
        ("1Gi", "1073741824", 1073741824000, 1073741824),
        ("1.5Ki", "1536", 1536000, 1536),
        ("1k", "1000", 1000000, 1000),
        ("1e3", "1000", 1000000, 1000),
        ("1E3", "1000", 1000000, 1000),
        ("1E", "1e18", 10**21, 10**18),
        ("1e-3", "0.001", 1, 1),
        ("5.", "5", 5000, 5),
        (".5", "0.5", 500, 1),
        ("+1", "1", 1000, 1),
        ("-1500m", "-1.5", -1500, -2),
        ("1n", "1e-9", 1, 1),
        ("0.1n", "1e-9", 1, 1),
        ("100u", "0.0001", 1, 1),
        ("64Mi", "67108864", 67108864000, 67108864),
        ("9999999999E", "9223372036854775807", 9223372036854775807000, 9223372036854775807),
    ],
)
def test_quantities(text: str, value: str, milli: int, whole: int) -> None:
    quantity = parse_quantity(text)
    assert (quantity.value, quantity.milli(), quantity.bytes()) == (Decimal(value), milli, whole)


def test_numbers_are_quantities_too() -> None:
    assert parse_quantity(2).milli() == 2000
    assert parse_quantity(0.5).milli() == 500


@pytest.mark.parametrize(
    "text",
    ["", "m", "1 Gi", "1gi", "1K", "1KB", "1e", "1e1.5", "0x10", "1,5", "--1", "1GiB", "1e99999", "\u0661", "1\n"],
)
def test_bad_quantities_are_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity") as caught:
        parse_quantity(text)
    assert repr(text) in str(caught.value)


@given(st.integers(0, 10**15))
def test_milli_is_exact(milli: int) -> None:
    assert parse_quantity(f"{milli}m").milli() == milli


@settings(max_examples=200, deadline=60_000, database=None)
@given(
    st.text(max_size=30)
    | st.text("0123456789.eE+-KMGTPinumk", max_size=30)
    | st.builds(lambda digits, end: "9" * digits + end, st.integers(0, 5000), st.sampled_from(["", "Ei", "e999", "n"]))
)
def test_any_text_is_an_amount_within_64_bits_or_refused(text: str) -> None:
    try:
        quantity = parse_quantity(text)
    except ValueError:
        return
    assert abs(quantity.bytes()) <= (1 << 63) - 1
    assert quantity.value * 1_000_000_000 % 1 == 0


def test_they_compare() -> None:
    assert parse_quantity("1000m") == parse_quantity("1")
    assert parse_quantity("1Gi") > parse_quantity("1G")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (999, "999"),
        (5000, "5k"),
        (100_000_000, "100M"),
        (2048, "2Ki"),
        (1_024_000, "1000Ki"),
        (1 << 30, "1Gi"),
    ],
)
def test_bytes_are_written_as_the_api_server_writes_them(count: int, text: str) -> None:
    assert bytes_text(count) == text
    assert parse_quantity(text).bytes() == count


@pytest.mark.parametrize(("milli", "text"), [(0, "0"), (1, "1m"), (1500, "1500m"), (2000, "2"), (2_000_000, "2k")])
def test_cpus_are_written_as_the_api_server_writes_them(milli: int, text: str) -> None:
    assert milli_text(milli) == text
    assert parse_quantity(text).milli() == milli
