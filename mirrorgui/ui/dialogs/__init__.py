"""Dialogs: all opened with ``open()``, never with a loop of their own."""
