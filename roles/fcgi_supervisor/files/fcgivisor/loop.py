# Copyright: webops.fastcgi contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""epoll, timers and signals, and nothing else. Nothing here wakes up unless something happens or is due."""

from __future__ import annotations

import errno
import heapq
import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

IN, OUT = select.EPOLLIN, select.EPOLLOUT
now = time.monotonic


class Timer:
    """Something that is due at a time of the monotonic clock; cancel() makes it never come due."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None] | None) -> None:
        self.when = when  # seconds, time.monotonic()
        self.callback = callback

    def cancel(self) -> None:
        self.callback = None

    def __lt__(self, other: Timer) -> bool:
        return self.when < other.when


class Loop:
    """One thread, one epoll. Callbacks must not raise; what one does all the same goes to on_error(exception), and the loop goes on."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[Timer] = []
        self._soon: list[Callable[[], None]] = []
        self._signals: dict[int, Callable[[], None]] = {}
        self._signalled: dict[int, None] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._running = False
        self.on_error: Callable[[BaseException], None] | None = None
        self.watch(self._wake_read, self._drain_wakeups)

    def watch(self, fd: int, callback: Callable[[int], None], events: int = IN) -> None:
        """Call callback(events) whenever fd is ready, until forget(fd). fd must be open until then."""
        self._callbacks[fd] = callback
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching fd, which may be unknown, or closed by now."""
        if self._callbacks.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except (OSError, ValueError):
                pass

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(when, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def after(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return self.at(now() + seconds, callback)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call once, when everything that is ready now has been handled."""
        self._soon.append(callback)

    def catch(self, signals: dict[int, Callable[[], None]]) -> None:
        """From now on, call these on their signals (in the loop, not in a handler)."""
        self._signals.update(signals)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, self._receive)

    def uncatch(self) -> None:
        """Forget all signals; each is ignored from now on, so that a late one ends nothing."""
        for number in self._signals:
            signal.signal(number, signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        self._signals.clear()

    def caught(self) -> Iterable[int]:
        return self._signals

    def stop(self) -> None:
        """Have run() return."""
        self._running = False

    def run(self) -> None:
        self._running = True
        while self._running:
            for fd, events in self._poll():
                callback = self._callbacks.get(fd)
                if callback is not None:
                    self._call(callback, events)
            self._handle_signals()
            self._fire_timers()
            while self._soon:
                callbacks, self._soon = self._soon, []
                for call in callbacks:
                    self._call(call)

    def close(self) -> None:
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _poll(self) -> list[tuple[int, int]]:
        timers = self._timers
        while timers and timers[0].callback is None:
            heapq.heappop(timers)
        timeout: float | None = None
        if self._soon or self._signalled:
            timeout = 0
        elif timers:
            timeout = max(0.0, timers[0].when - now())
        try:
            return self._epoll.poll(timeout)
        except OSError as error:
            if error.errno == errno.EINTR:
                return []
            raise

    def _receive(self, number: int, _frame: object) -> None:
        self._signalled[number] = None

    def _drain_wakeups(self, _events: int) -> None:
        try:
            while len(os.read(self._wake_read, 4096)) == 4096:
                pass
        except BlockingIOError:
            pass

    def _handle_signals(self) -> None:
        while self._signalled:
            number = next(iter(self._signalled))
            del self._signalled[number]
            callback = self._signals.get(number)
            if callback is not None:
                self._call(callback)

    def _fire_timers(self) -> None:
        timers = self._timers
        if not timers:
            return
        moment = now()
        while timers and timers[0].when <= moment:
            callback = heapq.heappop(timers).callback
            if callback is not None:
                self._call(callback)

    def _call(self, callback: Callable, *arguments: object) -> None:
        try:
            callback(*arguments)
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(error)
