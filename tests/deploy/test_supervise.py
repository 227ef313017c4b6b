"""The supervisor's poller: nothing makes it spin."""

import os

import pytest
from supervisor.poller import PollPoller

from deploy.lab.supervise import Poller


class Options:
    """What a poller wants of supervisord's options."""


@pytest.mark.parametrize(("kind", "reported"), [(PollPoller, True), (Poller, False)])
def test_a_number_that_became_the_end_of_a_broken_pipe_is_reported_once(kind: type[PollPoller], reported: bool) -> None:
    read, write = os.pipe()
    os.close(read)
    poller = kind(Options())
    poller.register_readable(write)
    poller.poll(0)
    assert bool(poller._poll_fds(0)) is reported
    os.close(write)


def test_output_and_its_end_are_still_reported() -> None:
    read, write = os.pipe()
    poller = Poller(Options())
    poller.register_readable(read)
    assert poller.poll(0) == ([], [])
    os.write(write, b"x")
    assert poller.poll(0) == ([read], [])
    os.read(read, 1)
    os.close(write)
    assert poller.poll(0) == ([read], [])
    os.close(read)
