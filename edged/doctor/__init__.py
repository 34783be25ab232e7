"""`edged doctor`: what is wrong around edged on this machine, and the command that mends it.

One module a subject. Each is examined in a process of its own, so that a sound server that is
frozen, or a disk that hangs, costs its own lines only. Where a daemon runs, it is asked; what it
cannot know, or where there is none, is looked at from outside.
"""
