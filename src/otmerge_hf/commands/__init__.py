"""One module a command of `otmerge`: `add_parser(subparsers)` states it, `run(arguments)` does it.

A module without a leading underscore is a command; its name is the command's.
"""
