"""supervisord with a poller that does not spin.

A program that ends leaves the descriptor of its output registered. When the next program's standard input gets the
same number, and that program closes its end, poll() says POLLERR at once and for ever, which supervisord 4.3
does not look at: it then takes a whole core. Here it is treated like a descriptor that is closed.
"""

import select

from supervisor import poller, supervisord


class Poller(poller.PollPoller):  # type: ignore[misc]
    """supervisord's own, less the loop."""

    def _ignore_invalid(self, fd: int, events: int) -> bool:
        """Return whether the descriptor is of no use; then it is asked for no more until it is registered anew."""
        return bool(super()._ignore_invalid(fd, select.POLLNVAL if events & select.POLLERR else events))


def main() -> None:
    """Run supervisord."""
    poller.Poller = Poller
    supervisord.main()


if __name__ == "__main__":
    main()
