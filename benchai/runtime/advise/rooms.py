"""What is left of a machine's memory while models are placed."""

from __future__ import annotations

from dataclasses import dataclass

from benchai.runtime.advise.fit import Choice
from benchai.runtime.advise.rules import PARALLEL_CLASS


@dataclass
class Rooms:
    """MiB left of each GPU and of the RAM."""

    gpus: list[int]
    ram: int

    def take(self, choice: Choice) -> Choice:
        """Take what a choice needs away, and give the choice back."""
        self.use(choice, choice.need.total_mib)
        self.ram -= choice.ram_mib
        return choice

    def use(self, choice: Choice, mib: int) -> None:
        """Take so much away where a choice lives; several GPUs share a model by their room."""
        if choice.place == "cpu":
            self.ram -= mib
            return
        rooms = {device: self.gpus[device] for device in choice.devices}
        total = max(sum(rooms.values()), 1)
        for device, room in rooms.items():
            self.gpus[device] -= mib * room // total

    def spare(self, choice: Choice) -> int:
        """MiB left on the GPUs of a choice."""
        return sum(self.gpus[device] for device in choice.devices)

    def one_for(self, choice: Choice) -> tuple[int, ...]:
        """The tightest GPU that holds it; empty where none does."""
        fitting = [device for device, room in enumerate(self.gpus) if choice.need.total_mib <= room]
        return (min(fitting, key=lambda device: self.gpus[device]),) if fitting else ()

    def all_for(self, choice: Choice) -> tuple[int, ...]:
        """All GPUs together, for a model so large that it may be spread; empty where they do not hold it."""
        spread = choice.entry.size >= PARALLEL_CLASS and len(self.gpus) > 1
        return tuple(range(len(self.gpus))) if spread and choice.need.total_mib <= sum(self.gpus) else ()
