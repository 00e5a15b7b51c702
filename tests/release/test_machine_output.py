"""JUnit XML and Markdown: what CI systems read, whatever the names hold."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import xmlschema

from edgeq.measurement import Measurement
from edgeq.release.budgets import Budgets
from edgeq.release.gate import gate
from edgeq.release.junit import junit
from edgeq.release.outcome import Check, Judgement, Outcome
from edgeq.release.release import Release
from edgeq.release.show import show_interval
from edgeq.release.summary import summary

SCHEMA = xmlschema.XMLSchema10(Path(__file__).parent / "schemas" / "junit.xsd")
HOSTILE = "]]><script>alert(1)</script> & \" ' | `x` \x00\x1b[31m \ud800 \n| a | b |"


def judgement(*checks: Check) -> Judgement:
    return Judgement(checks)


def test_junit_has_the_form_that_ci_systems_read() -> None:
    root = ElementTree.fromstring(
        junit(
            judgement(
                Check("size", 1.0, 2.0, Outcome.PASS, "fits", "cpu"),
                Check("latency", 3.0, 2.0, Outcome.FAIL, "too slow", "cpu", "ms"),
                Check("accuracy_drop", 0.0, 0.01, Outcome.INCONCLUSIVE, "too few", "board", "points"),
            ),
            "resnet20",
        )
    )
    assert root.tag == "testsuites"
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["errors"]) == ("3", "1", "1")
    assert [suite.attrib["name"] for suite in root] == ["cpu", "board"]
    assert {child.tag for suite in root for child in suite} == {"testcase"}
    failure = root.find("testsuite/testcase[@name='latency']/failure")
    assert failure is not None
    assert failure.attrib["message"] == "too slow"
    assert failure.text is not None
    assert failure.text.startswith("measured 3 ms, limit 2 ms")
    error = root.find("testsuite[@name='board']/testcase/error")
    assert error is not None
    assert error.attrib["type"] == "inconclusive"


@pytest.mark.parametrize("name", ["resnet20", HOSTILE])
def test_junit_keeps_the_schema_that_ci_systems_read(make_release: Callable[..., Release], name: str) -> None:
    checks = [Check(name, 1.0, None, outcome, name, device) for outcome in Outcome for device in ("", name, "cpu")]
    for judged in (gate(make_release()), judgement(*checks), judgement()):
        SCHEMA.validate(ElementTree.fromstring(junit(judged, name)))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('tests="1"', ""),
        ('errors="0"', 'errors="none"'),
        ("<failure ", "<failed "),
        ('type="fail"', ""),
        ("<testsuite name=", "<testsuite label="),
    ],
)
def test_the_schema_notices_what_is_not_junit(right: str, wrong: str) -> None:
    data = junit(judgement(Check("size", 3.0, 2.0, Outcome.FAIL, "too big", "cpu", "bytes")), "m").decode()
    assert right in data
    closing = (right.strip("< ").split()[0], wrong.strip("< ").split()[0] if wrong else "")
    broken = data.replace(right, wrong).replace(f"</{closing[0]}>", f"</{closing[1] or closing[0]}>")
    with pytest.raises(xmlschema.XMLSchemaValidationError):
        SCHEMA.validate(ElementTree.fromstring(broken))


def test_nothing_checked_is_a_failed_test_case() -> None:
    root = ElementTree.fromstring(junit(judgement(), "m"))
    assert root.attrib["failures"] == "1"
    assert len(root.findall("testsuite/testcase/failure")) == 1


def test_hostile_names_stay_text_in_junit() -> None:
    for outcome in Outcome:
        data = junit(judgement(Check(HOSTILE, 1.0, 1.0, outcome, HOSTILE, HOSTILE)), HOSTILE)
        root = ElementTree.fromstring(data)
        assert {element.tag for element in root.iter()} <= {
            *("testsuites", "testsuite", "testcase", "failure", "error", "system-out")
        }
        case = root.find("testsuite/testcase")
        assert case is not None
        assert case.attrib["name"].startswith("]]><script>alert(1)</script>")


@pytest.mark.parametrize(
    ("low", "high", "unit", "shown"),
    [
        (0.05, 0.2, "ms", "50 µs to 0.2 ms"),
        (0.5, 2.0, "ms", "0.5 to 2 ms"),
        (9e5, 1.1e6, "bytes", "900 KB to 1.1 MB"),
        (-0.0011, 0.01, "points", "\N{MINUS SIGN}0.11 to 1 point"),
        (0.01, 0.02, "points", "1 to 2 points"),
        (0.9, 1.1, "ratio", "0.90x to 1.10x"),
        (0.9, 0.91, "metric", "90.00 to 91.00 %"),
    ],
)
def test_an_interval_has_its_unit_once_where_it_is_one(low: float, high: float, unit: str, shown: str) -> None:
    assert show_interval(low, high, unit) == shown


def test_output_holds_no_time_and_no_host(make_release: Callable[..., Release]) -> None:
    release = make_release()
    data = junit(gate(release), release.model).decode()
    assert "timestamp" not in data
    assert "hostname" not in data
    assert data == junit(gate(release), release.model).decode()


def test_the_summary_leads_with_the_verdict_and_the_three_numbers(make_release: Callable[..., Release]) -> None:
    release = make_release()
    lines = summary(release, gate(release)).splitlines()
    assert lines[0] == "## edgeq: resnet20 (w8a8)"
    assert lines[2].startswith("**PASS: all")
    row = next(line for line in lines if line.startswith("| cpu"))
    assert "| 90.00 % | 89.90 % | 89.90 % (88.50 to 91.19 %) |" in row
    assert "2.00x (1.92x to 2.08x)" in row
    assert "290 KB of 1.1 MB" in row


def test_every_row_of_the_summary_has_its_columns_whatever_the_names_hold(
    make_release: Callable[..., Release], make_measurement: Callable[..., Measurement]
) -> None:
    measurement = make_measurement()
    hostile = replace(measurement, device=replace(measurement.device, profile=HOSTILE), latency=None)
    release = make_release(hostile, model=HOSTILE, notes=(HOSTILE,))
    text = summary(release, gate(release, Budgets(speed_up=2)))
    assert "<script>" not in text.replace("\\<script\\>", "")
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (6, 9)


@pytest.mark.parametrize(("outcome", "mark"), [(Outcome.PASS, "pass"), (Outcome.FAIL, "FAIL")])
def test_the_summary_says_the_outcome_of_each_check_in_words(
    make_release: Callable[..., Release], outcome: Outcome, mark: str
) -> None:
    assert mark in summary(make_release(), judgement(Check("size", 1, 2, outcome, "because", "cpu", "bytes")))
