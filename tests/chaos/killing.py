"""The kills of one round: at each named point, then at random."""

import random
import time
from collections import deque
from collections.abc import Sequence

from chaos.points.kill_points import POINTS, KillPoint, Tokens
from chaos.service import KINDS, Service
from chaos.world import World

#: Between two kills at random, seconds.
PAUSE_SECONDS = (0.4, 2.4)
#: A point that is not reached within this time is left for another round.
PATIENCE_SECONDS = 120.0
LOOK_SECONDS = 0.1
#: Between two deaths at points of one role: the processes that share its port must not all be dead at once.
BACK_SECONDS = 4.0


class Killer:
    """Kills, and keeps count."""

    def __init__(self, world: World, service: Service, tokens: Tokens, chance: random.Random) -> None:
        self._world = world
        self._service = service
        self._tokens = tokens
        self._chance = chance

    def kill_at_points(self, points: Sequence[KillPoint] = POINTS) -> None:
        """Have somebody die at each of these points: one role's one after the other, the roles side by side."""
        queues = _queues(points, self._chance)
        armed: dict[str, tuple[KillPoint, float]] = {}
        back_at: dict[str, float] = {}
        while queues or armed:
            now = time.monotonic()
            for role in [role for role in queues if role not in armed and now >= back_at.get(role, 0.0)]:
                point = queues[role].popleft()
                armed[role] = (point, time.monotonic() + PATIENCE_SECONDS)
                self._tokens.arm(point)
                if not queues[role]:
                    del queues[role]
            time.sleep(LOOK_SECONDS)
            fired = self.collect()
            for role, (point, until) in list(armed.items()):
                if point.name in fired or (time.monotonic() > until and self._give_up(point)):
                    del armed[role]
                    back_at[role] = time.monotonic() + BACK_SECONDS

    def kill_at_random(self, number: int) -> None:
        """Kill any process, again and again."""
        killed = 0
        while killed < number:
            time.sleep(self._chance.uniform(*PAUSE_SECONDS))
            kind = self._chance.choice(KINDS)
            victim = self._service.kill_one(kind, self._chance)
            if victim is not None:
                killed += 1
                self._count(self._world.state.at_random, kind, f"at random: {kind}, process {victim}")

    def collect(self) -> list[str]:
        """Count who died at points since the last time; the points."""
        fired = self._tokens.collect()
        for name, victim in fired:
            self._count(self._world.state.at_points, name, f"at {name}: process {victim}")
        return [name for name, _ in fired]

    def _give_up(self, point: KillPoint) -> bool:
        if not self._tokens.disarm(point):
            return False
        self._world.log(f"not reached within {PATIENCE_SECONDS:.0f} s: {point.name}")
        return True

    def _count(self, counts: dict[str, int], name: str, text: str) -> None:
        counts[name] = counts.get(name, 0) + 1
        self._world.save()
        self._world.log(text)


def _queues(points: Sequence[KillPoint], chance: random.Random) -> dict[str, deque[KillPoint]]:
    queues: dict[str, deque[KillPoint]] = {}
    for point in chance.sample(points, len(points)):
        queues.setdefault(point.role, deque()).append(point)
    return queues
