"""Malformed files get a typed error that says where, or a warning and the right values.

Every file is read in a child process, under limits of time and memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import malformed_cases
import malformed_tiles
import pytest
from malformed import Case, between, header, image, image_cards, table
from probe import Prober

pytestmark = pytest.mark.native
FAMILY = {"FitsFormatError", "FitsIOError", "FitsUnsupported", "HduMissing", "KeywordMissing"}


@pytest.fixture(scope="module")
def probe() -> Iterator[Prober]:
    prober = Prober()
    yield prober
    prober.close()


def errors(found: Any) -> Iterator[dict[str, Any]]:
    """Every error that a report holds."""
    if isinstance(found, dict):
        if "error" in found:
            yield found
        else:
            for each in found.values():
                yield from errors(each)
    elif isinstance(found, list):
        for each in found:
            yield from errors(each)


def check_harmless(found: dict[str, Any], path: str, *, memory: int = 1 << 27, seconds: float = 2) -> None:
    """No crash, no hang, no blow-up, nothing printed, nothing left open, and every error a typed one."""
    assert "died" not in found, found["died"]
    assert not found["noise"]
    assert found["descriptors"] == 0
    # the sanitizer takes time and memory of its own
    sanitized = "ASAN_OPTIONS" in os.environ
    assert found["seconds"] < (4 * seconds if sanitized else seconds)
    assert sanitized or found["memory"] < memory
    assert all(category == "FitsWarning" for category, _ in found["warnings"]), found["warnings"]
    for error in errors(found):
        assert FAMILY & set(error["family"]), error
        assert error["path"] == path, error
        assert path in error["text"], error
    for i, hdu in enumerate(found["hdus"]):
        assert "alone" not in hdu or hdu["alone"] == hdu["read"]
        for error in errors(hdu):
            assert f"HDU {error['hdu']!r}" in error["text"]
            assert error["hdu"] == i or (error["hdu"] < i and error["error"] != "HduMissing"), error
    assert found.get("again", True), "another answer the second time"


def check_error(error: dict[str, Any], case: Case) -> None:
    assert error.get("error") == case.error, error
    assert case.says in error["text"].replace(str(error["path"]), "")


@pytest.mark.parametrize("case", malformed_cases.CASES + malformed_tiles.CASES, ids=lambda case: case.name)
def test_bad_input(case: Case, tmp_path: Any, probe: Prober) -> None:
    path = tmp_path / "bad.fits"
    path.write_bytes(case.build())
    found = probe(path)
    check_harmless(found, str(path), memory=case.memory, seconds=case.seconds)
    hdus = found["hdus"]
    if case.error and case.step == "open":
        check_error(found["open"], case)
    elif case.error and case.step == "find":
        for step in (found["len"], found["list"], hdus[case.hdu]["find"], hdus[case.hdu]["function"]):
            check_error(step, case)
            assert step["hdu"] == case.hdu
        assert case.says in found["info"]["value"]
    elif case.error:
        bad = hdus[case.hdu]
        assert case.hdu < found["len"]["value"]
        assert f"\n{case.hdu} " in found["info"]["value"]
        check_error(bad["read"], case)
        if case.step == "column":
            check_error(bad["columns"][case.column], case)
            assert [name for name, each in bad["columns"].items() if "error" in each] == [case.column]
    else:
        assert not [error for error in errors(hdus) if error["error"] != "HduMissing"]
    for index, expected in case.reads.items():
        hdu = hdus[index]
        if isinstance(expected, dict):
            columns = {name: each.get("value") for name, each in hdu["columns"].items()}
            assert {name: columns.get(name) for name in expected} == expected
            if case.hdu != index or not case.error:
                assert hdu["read"]["value"] == expected
        else:
            assert hdu["read"].get("value") == expected, hdu["read"]
    assert any(case.warns in text for _, text in found["warnings"]) or not case.warns


@pytest.mark.parametrize("cut", range(100, 6 * 2880, 500))
def test_cut_anywhere(cut: int, tmp_path: Any, probe: Prober) -> None:
    whole = between(table())
    assert len(whole) == 6 * 2880
    path = tmp_path / "cut.fits"
    path.write_bytes(whole[:cut])
    found = probe(path)
    check_harmless(found, str(path))
    for i, expected in enumerate(
        ([[0, 1, 2], [3, 4, 5]], {"A": [1, 2, 3], "B": [10, 20, 30]}, [[0, 1, 2], [3, 4, 5]])
    ):
        begin = 2 * 2880 * i
        data_end = begin + 2880 + (18 if i == 1 else 12)
        answer = found["hdus"][i].get("read", found["hdus"][i]["find"])
        if cut >= data_end:
            assert answer["value"] == expected
        elif cut <= begin:
            assert answer["error"] in ("HduMissing", "FitsFormatError")
        else:
            assert answer["error"] == "FitsFormatError"


def test_header_bulk_takes_linear_time(tmp_path: Any, probe: Prober) -> None:
    seconds = []
    for count in (50_000, 200_000):
        path = tmp_path / f"{count}.fits"
        cards = (f"K{i:<7}= {i}".encode().ljust(80) for i in range(count))
        path.write_bytes(header(image_cards(), *cards) + bytes(2880))
        found = probe(path)
        check_harmless(found, str(path), memory=1 << 30, seconds=20)
        seconds.append(found["seconds"])
    assert seconds[1] < 8 * seconds[0]


def test_probe_sees_a_good_file(tmp_path: Any, probe: Prober) -> None:
    path = tmp_path / "good.fits"
    path.write_bytes(image() + table() + image(1))
    found = probe(path)
    check_harmless(found, str(path), memory=1 << 25, seconds=1)
    assert found["len"] == {"value": 3}
    assert found["hdus"][0]["raw"] == {"value": [[0, 1, 2], [3, 4, 5]]}
    assert not found["warnings"]
