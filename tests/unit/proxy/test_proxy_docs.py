"""The proxy's documents name what exists."""

from __future__ import annotations

import re
from pathlib import Path

from proxy.config_fields import FIELDS

REPOSITORY = Path(__file__).parents[3]


def test_every_file_in_the_life_of_a_service_exists_and_no_station_is_left_out() -> None:
    text = (REPOSITORY / "docs" / "life-of-a-service.md").read_text()
    named = set(re.findall(r"\b(?:proxy|daemonkit|docs)/[\w/.-]+\.(?:py|md)\b", text))
    assert sorted(path for path in named if not (REPOSITORY / path).is_file()) == []
    aside = {"__init__.py", "config_fields.py", "config_reader.py", "config_values.py", "node_settings.py", "server.py",
             "conntrack_netlink.py", "own_address.py"}  # fmt: skip
    ours = {f"proxy/{path.name}" for path in (REPOSITORY / "proxy").glob("*.py") if path.name not in aside}
    ours |= {f"proxy/sources/{p.name}" for p in (REPOSITORY / "proxy" / "sources").glob("*.py") if p.name not in aside}
    assert sorted(ours - named) == []


def test_the_configuration_table_is_the_one_the_code_reads_by() -> None:
    text = (REPOSITORY / "docs" / "proxy-configuration.md").read_text()
    for field in FIELDS:
        path = f"`{field.path}`" if field.path else ""
        flag = f"`--{field.flag}`" if field.flag else ""
        assert f"| {path} | {flag} | {field.use.value} | {field.why} |\n" in text
    assert text.count("\n| ") == len(FIELDS) + 1
