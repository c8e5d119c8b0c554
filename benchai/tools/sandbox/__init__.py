"""Running programs that a model wrote, where they can harm nothing but the workspace.

`base` says what holds. What does not:

- Names, sizes and times of files outside can be seen by a program that guesses their path (landlock).
- The disk can be filled, by many files that each keep within the limit.
- Memory of several processes together, and under bwrap their number, is looked at every 0.05 to 0.2 s: a
  program may go beyond it for that long.
- CPU time of a child that its parent does not wait for is counted only while it runs.
- A program that runs as root may make files of root in the workspace.
- Under landlock there is no /proc, no /dev/shm, and no writable /tmp but TMPDIR; so ps and locks of
  multiprocessing do not work. No socket can be made, not even a server on the loopback, but pairs.
- A workspace inside the home folder is readable as a whole, whatever keys lie in it.
- When the guard itself is killed with SIGKILL, what it watched is looked for by its session and by its
  environment, and a process that has left both outlives it.
"""

from benchai.tools.sandbox.base import EndedBy, Limits, Ran, Sandbox
from benchai.tools.sandbox.find import find_sandbox

__all__ = ["EndedBy", "Limits", "Ran", "Sandbox", "find_sandbox"]
