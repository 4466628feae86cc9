"""Worlds to test members in; ``petcd.testing.world`` is the simulated one (docs/design.md, Tests)."""
