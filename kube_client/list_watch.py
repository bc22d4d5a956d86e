"""List once, then watch, for ever: what to ask an API server next, and what its answers mean.  Pure, no clock.

Before: `kube_client.follow` asks `next_step`, does it and tells what came of it.  Next: the changes it gives out go to
a `kube_client.store`.  Source: API concepts, "Efficient detection of changes"; the reflector of client-go.

The first list may come from the server's cache.  A watch starts where the last list or watch ended and is resumed there
when it breaks off.  Only when the server has forgotten that place (410), or answers again and again without telling
anything, is everything listed anew; a server that was away for long is not met by a list of everything.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from daemonkit.pauses import growing_pause_s
from kube_client.errors import ApiError, MalformedError, UnreachableError
from kube_client.messages import Item, Line, Page

PAGE_SIZE = 500
_WATCH_SHORTEST_S = 300.0
_PAUSE_FIRST_S = 0.2
_PAUSE_MAX_S = 10.0
_FRUITLESS_BEFORE_LIST = 5
_GONE = 410


@dataclass(frozen=True, slots=True)
class ListStep:
    """Ask for a page of the list."""

    resource_version: str
    """"0": whatever the server has at hand, "": what the store of record holds, else at least that."""
    next_page: str = ""


@dataclass(frozen=True, slots=True)
class WatchStep:
    """Open a watch."""

    resource_version: str
    timeout_s: int
    """When the server is to end it."""


@dataclass(frozen=True, slots=True)
class PauseStep:
    """Do nothing for a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Replaced:
    """These are all objects there are."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Stored:
    """This object is new or other than before."""

    item: Item


@dataclass(frozen=True, slots=True)
class Removed:
    """This object is gone; `item` is its last state."""

    item: Item


Step = ListStep | WatchStep | PauseStep
Change = Replaced | Stored | Removed


class ListWatch:
    """The state of one list-watch."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """`chance` gives numbers from 0 to 1, which keep the clients of a server from all coming at once."""
        self._chance = chance
        self._resource_version = ""
        self._list_from: str | None = "0"
        """None while the next step is a watch."""
        self._next_page = ""
        self._pages: list[Page] = []
        self._failures = 0
        self._fruitless = 0
        """Watches in a row that were answered and told nothing."""
        self._pause_s = 0.0

    @property
    def resource_version(self) -> str:
        """Where the next watch starts; "" before the first list."""
        return self._resource_version

    def next_step(self) -> Step:
        """What to do now."""
        if self._pause_s:
            pause, self._pause_s = PauseStep(self._pause_s), 0.0
            return pause
        if self._list_from is not None:
            # The rest of a list that came in pages is fixed by its continue token.
            return ListStep("" if self._next_page else self._list_from, self._next_page)
        return WatchStep(self._resource_version, int(_WATCH_SHORTEST_S * (1.0 + self._chance())))

    def take_page(self, page: Page) -> Replaced | None:
        """A page came; the whole list after its last page.  Raises MalformedError for a list without a version."""
        if not page.resource_version:
            raise MalformedError("cannot read the list: metadata.resourceVersion is missing")
        self._pages.append(page)
        self._next_page = page.next_page
        if page.next_page:
            return None
        items = tuple(item for each in self._pages for item in each.items)
        self._pages, self._list_from = [], None
        self._fruitless = 0  # and `_failures` stays: a version that is forgotten as soon as it is listed is no success
        self._resource_version = page.resource_version
        return Replaced(items)

    def take_line(self, line: Line) -> Stored | Removed | None:
        """A line of the watch came that is no ERROR; for that, see `take_error`."""
        self._failures = self._fruitless = 0
        if line.resource_version:
            self._resource_version = line.resource_version
        if line.item is None:
            return None
        return Removed(line.item) if line.kind == "DELETED" else Stored(line.item)

    def take_end(self, *, told: bool) -> None:
        """The watch ended in good order; `told` when a line had come, or it lasted as long as it should."""
        if told:
            self._failures = self._fruitless = 0
            return
        self._fruitless += 1
        self._fail(0, "", None)

    def take_error(self, error: ApiError) -> None:
        """The step failed."""
        self._fruitless += not isinstance(error, UnreachableError)
        self._fail(error.status, error.reason, error.retry_after_s)

    def _fail(self, status: int, reason: str, retry_after_s: float | None) -> None:
        self._failures += 1
        expired = status == _GONE or reason in ("Expired", "Gone")
        # A server whose store was set back says that it does not know the version yet.
        ahead = self._list_from is not None and self._list_from not in ("", "0") and reason == "Timeout"
        # An expired page begins the list again.
        self._pages, self._next_page = [], ""
        if expired or ahead:
            self._list_from = ""
        elif self._list_from is None and self._fruitless >= _FRUITLESS_BEFORE_LIST:
            self._list_from = self._resource_version
        if expired and self._failures == 1:
            return
        growing_s = growing_pause_s(self._failures, _PAUSE_FIRST_S, _PAUSE_MAX_S)
        self._pause_s = max(growing_s * (0.5 + self._chance()), retry_after_s or 0.0)
