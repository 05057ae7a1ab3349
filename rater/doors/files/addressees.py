"""Who is to be told of an event of a file door: each tenant's lists, by the version of the account they came with.

An event goes to the list that stood when it happened, so telling a folder's events again ends in the same mails.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator

from rater.notify.contacts import CONTACTS_SET, Contact, contacts_of
from rater.notify.events import Event, read_event


class Addressees:
    """The lists of all tenants, each as the event that set it."""

    def __init__(self, known: Iterable[bytes] = ()) -> None:
        self._versions: dict[str, list[int]] = {}
        self._lists: dict[tuple[str, int], tuple[Event, tuple[Contact, ...]]] = {}
        for body in known:
            self.learn(read_event(body))

    def __bool__(self) -> bool:
        return bool(self._lists)

    def learn(self, event: Event) -> None:
        if event.type != CONTACTS_SET or (event.tenant, event.account_version) in self._lists:
            return
        insort(self._versions.setdefault(event.tenant, []), event.account_version)
        self._lists[event.tenant, event.account_version] = (event, contacts_of(event))

    def of(self, event: Event) -> tuple[Contact, ...]:
        """The newest list that is older than the event."""
        versions = self._versions.get(event.tenant, [])
        place = bisect_left(versions, event.account_version)
        return self._lists[event.tenant, versions[place - 1]][1] if place else ()

    def newest(self) -> Iterator[tuple[str, bytes]]:
        """(tenant, event) of the list each tenant has now."""
        for tenant, versions in sorted(self._versions.items()):
            yield tenant, self._lists[tenant, versions[-1]][0].body
