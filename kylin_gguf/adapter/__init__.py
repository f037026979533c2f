"""Carries commands out with what the desktop has: its settings, its D-Bus services, its programs.

Runs in a process of its own, and trusts nobody: a command is an id and arguments, which are checked against
the catalogue files of this machine, and only their effects are carried out.
"""
