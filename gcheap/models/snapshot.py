"""Marking beside the program: what was reachable at the beginning is marked, whatever happens.

A marker scans old objects slot by slot. A mutator loads, stores and deletes references (a few of
all that it could do, in any order); while the flag is set a store logs the word that it is about to
overwrite. A log that is full loses what is not wanted (marked by then, or no old object) and goes
to the marker if much is left; who takes a log leaves out what is not wanted, too. A young object is
live by decree and never seen by the marker; the minor promotes it, marked and not traced, so what
it refers to must be marked for other reasons. A large object is born old, and marked. Remark, at
any time, takes all logs and marks what is left; once it may be late, and leaves that to the marker.

Objects are A, a static root with two slots; B and C with one; one that is born young, and where it
is after the minor; a large one.
"""

from __future__ import annotations

from typing import NamedTuple

from gcheap.explore import Actor, Answer, Model, Step, check, jump, replaced
from gcheap.models import Case

NULL, A, B, C, YOUNG, PROMOTED, LARGE = "null", "A", "B", "C", "young", "promoted", "large"
OBJECTS = (A, B, C, YOUNG, PROMOTED, LARGE)
LOG_ENTRIES = 2
"""A log with so many is full."""

MUTANTS = {
    "no_barrier": "stores log nothing",
    "reads_after_store": "the log takes what is in the slot after the store",
    "logs_new_value": "the log takes the value that is stored",
    "takes_young": "who takes a log takes every word in it for an old object",
    "filter_drops_all": "a log that is full is emptied, whatever is in it",
    "late_remark_ends": "a remark that is late ends the marking",
    "marker_follows_young": "the marker takes a young value in a slot for an object to scan",
    "promoted_unmarked": "what a minor promotes is not born marked",
    "large_unmarked": "a large object is born unmarked",
    "roots_not_shaded": "the first pause does not mark what a mutator's frames refer to",
    "remark_without_partial": "remark does not take logs that are not full",
    "remark_without_full": "remark does not take full logs that the marker has not drained",
    "marked_not_scanned": "what the marker finds is marked, and not scanned in turn",
}


class Pending(NamedTuple):
    """A store that has begun."""

    object: str
    slot: int
    value: str


class Slots(NamedTuple):
    """What the slots of each object hold."""

    A: tuple[str, ...] = (NULL, NULL)
    B: tuple[str, ...] = (NULL,)
    C: tuple[str, ...] = (NULL,)
    young: tuple[str, ...] = (NULL,)
    promoted: tuple[str, ...] = (NULL,)
    large: tuple[str, ...] = (NULL,)


class State(NamedTuple):
    slots: Slots
    refs: tuple[str, ...]
    """By mutator: the reference in its frame."""
    left: tuple[int, ...]
    """By mutator: operations that it may still do."""
    flag: tuple[bool, ...]
    """By mutator: it logs."""
    attached: tuple[bool, ...]
    log: tuple[frozenset[str], ...]
    pending: tuple[Pending | None, ...]
    full: frozenset[str] = frozenset()
    marked: frozenset[str] = frozenset()
    grey: frozenset[str] = frozenset()
    scanning: str = NULL
    slot: int = 0
    born: frozenset[str] = frozenset()
    minor: bool = False
    late: bool = False
    """A remark has been late."""
    over: bool = False


def _of(s: State, name: str) -> tuple[str, ...]:
    return s.slots[OBJECTS.index(name)]


def _with(s: State, name: str, slots: tuple[str, ...]) -> State:
    return s._replace(slots=Slots(*replaced(s.slots, OBJECTS.index(name), slots)))


def _shaded(s: State, value: str) -> State:
    check(value != YOUNG, "the marker never sees a young address")
    if value == NULL or value in s.marked:
        return s
    return s._replace(marked=s.marked | {value}, grey=s.grey | {value})


def _is_wanted(s: State, word: str) -> bool:
    """mark_wanted: an old object starts there, by the live map, and is not marked."""
    return word not in (NULL, YOUNG) and word not in s.marked


def _taken(s: State, words: frozenset[str], mutant: str | None) -> State:
    for word in sorted(words):
        if mutant == "takes_young" or _is_wanted(s, word):
            s = _shaded(s, word)
    return s


def _traced(s: State) -> State:
    while s.grey:
        found = min(s.grey)
        s = s._replace(grey=s.grey - {found})
        for value in _of(s, found):
            if value != YOUNG:
                s = _shaded(s, value)
    return s


def _reachable(s: State) -> set[str]:
    found: set[str] = set()
    todo = [A, *s.refs]
    while todo:
        value = todo.pop()
        if value != NULL and value not in found:
            found.add(value)
            todo.extend(_of(s, value))
    return found


def _at_safepoint(s: State) -> bool:
    return not any(s.pending)


# --- mutators -------------------------------------------------------------------------------------


def _born(s: State, new: str, ref: str, mutant: str | None) -> State:
    """A new object that refers to what the mutator holds."""
    marks = {LARGE} if new == LARGE and mutant != "large_unmarked" else set()
    return _with(s._replace(born=s.born | {new}, marked=s.marked | marks), new, (ref,))


def _choices(
    s: State, me: int, operations: frozenset[str], mutant: str | None
) -> list[tuple[str, State]]:
    """What the mutator may do next, and at which step it goes on; '': a store begins."""
    ref = s.refs[me]
    found: list[tuple[str, State]] = []

    def holds(operation: str, value: str, state: State = s) -> None:
        if operation in operations:
            found.append(("operate", state._replace(refs=replaced(s.refs, me, value))))

    def store(operation: str, target: str, slot: int, value: str) -> None:
        if operation in operations and _of(s, target)[slot] != value:
            pending = replaced(s.pending, me, Pending(target, slot, value))
            found.append(("", s._replace(pending=pending)))

    for slot in range(2):
        if _of(s, A)[slot] not in (NULL, ref):
            holds("load", _of(s, A)[slot])
        store("clear", A, slot, NULL)
        if ref != NULL:
            store("store", A, slot, ref)
    if ref == NULL:
        return found
    if ref != A:
        store("cut", ref, 0, NULL)
        store("link", ref, 0, _of(s, A)[0])
    if _of(s, ref)[0] != NULL:
        holds("follow", _of(s, ref)[0])
    for operation, new in (("new", YOUNG), ("new_large", LARGE)):
        if new not in s.born and not (new == YOUNG and s.minor):
            holds(operation, new, _born(s, new, ref, mutant))
    return found


def _logged(s: State, me: int, value: str, mutant: str | None) -> State:
    """The word that a store is about to overwrite goes to the mutator's log, if it has one."""
    if value == NULL or not s.flag[me] or mutant == "no_barrier":
        return s
    log = s.log[me] | {value}
    if len(log) >= LOG_ENTRIES:
        keep = mutant != "filter_drops_all"
        log = frozenset(word for word in log if keep and _is_wanted(s, word))
    if len(log) < LOG_ENTRIES:
        return s._replace(log=replaced(s.log, me, log))
    return s._replace(full=s.full | log, log=replaced(s.log, me, frozenset()))


def mutator(
    me: int, operations: frozenset[str], mutant: str | None
) -> list[Step[State] | tuple[str, Step[State]]]:
    """Return the steps of a mutator: any operation, as often as it has some left."""

    def pending(s: State) -> Pending:
        found = s.pending[me]
        assert found is not None
        return found

    def operate(s: State) -> list[Answer[State]]:
        if s.left[me] == 0 or s.over:
            return [jump("retire", s)]
        left = replaced(s.left, me, s.left[me] - 1)
        found = _choices(s._replace(left=left), me, operations, mutant)
        answers: list[Answer[State]] = [
            jump(label or order[0].__name__, after) for label, after in found
        ]
        return answers or [jump("retire", s)]

    def gch_log(s: State) -> State:
        """The barrier's read of the slot: what is logged."""
        p = pending(s)
        value = p.value if mutant == "logs_new_value" else _of(s, p.object)[p.slot]
        return _logged(s, me, value, mutant)

    def store(s: State) -> State:
        p = pending(s)
        return _with(s, p.object, replaced(_of(s, p.object), p.slot, p.value))

    def stored(step: Step[State]) -> tuple[str, Step[State]]:
        """The last step of a store, and its end."""

        def last(s: State) -> Answer[State]:
            after = step(s)
            assert isinstance(after, State)
            return jump("operate", after._replace(pending=replaced(s.pending, me, None)))

        return step.__name__, last

    def retire(s: State) -> State:
        """It does no more; what its frame refers to stays."""
        return s._replace(left=replaced(s.left, me, 0))

    order = [gch_log, store]
    if mutant == "reads_after_store":
        order.reverse()
    return [operate, order[0], stored(order[1]), retire]


# --- the collector --------------------------------------------------------------------------------


def marker(mutant: str | None) -> Actor[State]:
    """Return the marker: it takes grey objects, then full logs, until remark."""

    def take(s: State) -> list[Answer[State]]:
        if s.over:
            return [jump("(end)", s)]
        if s.grey:
            return [s._replace(scanning=o, slot=0, grey=s.grey - {o}) for o in sorted(s.grey)]
        if not s.full:
            return [None]
        return [jump("take", _taken(s, s.full, mutant)._replace(full=frozenset()))]

    def scan_slot(s: State) -> Answer[State]:
        value = _of(s, s.scanning)[s.slot]
        if value != YOUNG or mutant == "marker_follows_young":
            s = _shaded(s, value)
        if mutant == "marked_not_scanned":
            s = s._replace(grey=s.grey - {value})
        if s.slot + 1 < len(_of(s, s.scanning)):
            return jump("scan_slot", s._replace(slot=s.slot + 1))
        return jump("take", s._replace(scanning=NULL, slot=0))

    return Actor("marker", [take, scan_slot])


def minor(mutant: str | None) -> Actor[State]:
    """Return the minor: one, at any time; it promotes the young object where it is reached."""

    def minor_collect(s: State) -> list[Answer[State]]:
        if s.over:
            return [s]
        if not _at_safepoint(s) or s.scanning != NULL:
            return [None]
        reached = YOUNG in s.refs or any(YOUNG in slots for slots in s.slots)
        if reached:
            marks = {PROMOTED} if mutant != "promoted_unmarked" else set()
            s = _with(s._replace(marked=s.marked | marks), PROMOTED, _of(s, YOUNG))
        s = _with(s, YOUNG, (NULL,))

        def moved(values: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(PROMOTED if value == YOUNG else value for value in values)

        return [s._replace(slots=Slots(*map(moved, s.slots)), refs=moved(s.refs), minor=True)]

    return Actor("minor", [minor_collect])


def remark(mutant: str | None, blind: int = -1) -> Actor[State]:
    """Return remark: it drains the logs, marks what is left, and ends the marking.

    ``blind``: the mutator whose log it does not know.
    """

    def mark_remark(s: State) -> list[Answer[State]]:
        if not _at_safepoint(s) or s.scanning != NULL:
            return [None]
        partial = (log for me, log in enumerate(s.log) if me != blind)
        logs: frozenset[str] = frozenset[str]().union(*partial)
        if mutant == "remark_without_partial":
            logs = frozenset()
        if mutant != "remark_without_full":
            logs |= s.full
        empty = (frozenset[str](),) * len(s.log)
        s = _taken(s, logs, mutant)._replace(full=frozenset(), log=empty)
        late: list[Answer[State]] = []
        if not s.late and mutant != "late_remark_ends":
            late = [jump("mark_remark", s._replace(late=True))]
        return [complete(s if mutant == "late_remark_ends" else _traced(s)), *late]

    def complete(s: State) -> State:
        lost = sorted(_reachable(s) - s.marked - {YOUNG})
        check(not lost, "everything reachable is marked")
        for found in s.marked:
            stays = set(_of(s, found)) <= s.marked | {YOUNG, NULL}
            check(stays, "what is marked refers to what is marked, or young")
        return s._replace(over=True)

    return Actor("remark", [mark_remark])


def snapshot_taken(mutant: str | None) -> Step[State]:
    """Return the first pause: one of two graphs, its roots marked, the flags set."""

    def mark_begin(s: State) -> list[Answer[State]]:
        chain = s._replace(slots=Slots(A=(B, NULL), B=(C,)))
        frame = s._replace(slots=Slots(A=(B, NULL)), refs=(C, *s.refs[1:]))
        answers: list[Answer[State]] = []
        for graph in (chain, frame):
            begun = _shaded(graph, A)
            for value in graph.refs if mutant != "roots_not_shaded" else ():
                begun = _shaded(begun, value)
            flags = tuple(on or attached for on, attached in zip(s.flag, s.attached, strict=True))
            answers.append(begun._replace(flag=flags))
        return answers

    return mark_begin


def start(left: tuple[int, ...], attached: tuple[bool, ...]) -> State:
    """Return the state before the first pause."""
    count = len(left)
    return State(
        slots=Slots(),
        refs=(NULL,) * count,
        left=left,
        flag=(False,) * count,
        attached=attached,
        log=(frozenset(),) * count,
        pending=(None,) * count,
    )


def begun(actor: Actor[State]) -> Actor[State]:
    """Return the actor, whose first step waits for the first pause."""
    first = actor.steps[0]

    def after_pause(s: State) -> Answer[State] | list[Answer[State]]:
        return first(s) if A in s.marked else None

    steps = [after_pause, *actor.steps[1:]]
    return Actor(actor.name, list(zip(actor.labels, steps, strict=True)))


OPERATIONS = frozenset({"load", "clear", "store", "cut", "link", "follow", "new", "new_large"})


def build(mutant: str | None) -> Model[State]:
    first = Actor("pause", [snapshot_taken(mutant)])
    acts = begun(Actor("mutator", mutator(0, OPERATIONS, mutant)))
    others = [begun(actor) for actor in (marker(mutant), minor(mutant), remark(mutant))]
    return Model("snapshot", start((3,), (True,)), [first, acts, *others])


CASE = Case(
    "snapshot",
    "marking beside a mutator: barrier, logs, promoted and large objects, remark",
    ("include/gcheap/barrier_inline.h", "include/gcheap/mutator.h", "src/gc/minor.c",
     "src/gc/snapshot.c", "src/gc/mark.c", "src/gc/marker.c", "src/gc/cycle.c", "src/heap/large.c"),
    ("gch_log", "snapshot", "minor_collect", "mark_wanted", "filter", "take_log",
     "mark_begin", "mark_remark", "born_map", "note_birth"),
    build,
    MUTANTS,
)  # fmt: skip
