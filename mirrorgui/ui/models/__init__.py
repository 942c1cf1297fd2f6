"""Qt item models over frozen records of the engine."""
