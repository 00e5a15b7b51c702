"""The judgement as JUnit XML, for the merge pages of CI systems.

The form is what Jenkins (junit-10.xsd), GitLab, GitHub actions and Azure read: testsuites > testsuite (one for each
device) > testcase (one for each check) > failure or error. A failed check is a failure; an undecided one is an error,
because "skipped" shows as green. No timestamps and no host names: the same judgement gives the same bytes.
"""

import re
from xml.etree import ElementTree

from edgeq.release.outcome import Check, Judgement, Outcome
from edgeq.release.show import show

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(judgement: Judgement, model: str) -> bytes:
    """UTF-8 JUnit XML."""
    root = ElementTree.Element("testsuites", _counts(judgement.checks) | {"name": _text(f"edgeq gate: {model}")})
    if not judgement.checks:
        judgement = Judgement((Check("measured", None, None, Outcome.FAIL, judgement.sentence),))
        root.attrib |= _counts(judgement.checks)
    for device in dict.fromkeys(check.device for check in judgement.checks):
        checks = [check for check in judgement.checks if check.device == device]
        suite = ElementTree.SubElement(root, "testsuite", {"name": _text(device or "release")} | _counts(checks))
        for check in checks:
            _case(suite, check, f"edgeq.{device or 'release'}")
    ElementTree.indent(root)
    body: bytes = ElementTree.tostring(root, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + body + b"\n"


def _case(suite: ElementTree.Element, check: Check, classname: str) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", {"name": _text(check.name), "classname": _text(classname), "time": "0"}
    )
    if check.outcome is Outcome.PASS:
        ElementTree.SubElement(case, "system-out").text = _text(check.reason)
        return
    tag = "failure" if check.outcome is Outcome.FAIL else "error"
    problem = ElementTree.SubElement(case, tag, {"message": _text(check.reason), "type": check.outcome.value})
    measured, limit = show(check.measured, check.unit), show(check.limit, check.unit)
    problem.text = _text(f"measured {measured}, limit {limit}\n{check.reason}")


def _counts(checks: tuple[Check, ...] | list[Check]) -> dict[str, str]:
    failures = sum(check.outcome is Outcome.FAIL for check in checks)
    errors = sum(check.outcome is Outcome.INCONCLUSIVE for check in checks)
    return {"tests": str(len(checks)), "failures": str(failures), "errors": str(errors), "time": "0"}


def _text(text: str) -> str:
    """The text without what XML 1.0 cannot hold, even escaped."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
