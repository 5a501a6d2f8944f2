"""Where the contract suite finds its cases: every ``case_*.py`` beside this file."""

import importlib
from pathlib import Path

_MODULES = sorted(Path(__file__).parent.glob("case_*.py"))


def cases(name):
    """All cases of one kind, with the format and what tells them apart as id."""
    for path in _MODULES:
        module = importlib.import_module(f"tests.formats.{path.stem}")
        for case in getattr(module, name, ()):
            yield f"{case.format}-{case.id}" if case.id else case.format, case


def pytest_generate_tests(metafunc):
    for argument, name in (("prediction", "PREDICTION_CASES"), ("label", "LABEL_CASES")):
        if argument in metafunc.fixturenames:
            found = list(cases(name))
            metafunc.parametrize(argument, [c for _, c in found], ids=[i for i, _ in found])
