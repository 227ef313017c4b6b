"""Wiring: every module with a ``build`` is a controller, and every kind that becomes Ready has one."""

import importlib

from vcstack.controllers.wiring import find_builds
from vcstack.specs.registry import load_kinds


def test_modules_with_a_build_are_found_and_others_are_not() -> None:
    builds = find_builds()
    assert {"flavor", "garbage", "instance", "scheduler", "task"} <= set(builds)
    assert not {"capacity", "placement", "interfaces", "wiring", "backends"} & set(builds)


REPORTED_ELSEWHERE = {"masterkey"}
"""Their status is of the program that works on the store itself, which controllers do not hold."""


def test_every_kind_that_becomes_ready_has_a_controller() -> None:
    seats = {name.replace("_", "") for name in find_builds()} | REPORTED_ELSEWHERE
    kinds = {d.singular for d in load_kinds().values() if d.ready_when}
    assert kinds <= seats


def test_every_controller_says_in_its_module_what_it_is() -> None:
    for name in find_builds():
        module = importlib.import_module(f"vcstack.controllers.{name}")
        assert module.__doc__
