"""The views below the header: tables and texts."""
