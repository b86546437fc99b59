"""`python -m benchmarks` runs the race."""

from benchmarks.race import main

main()
