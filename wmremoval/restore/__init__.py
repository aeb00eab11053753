"""From a photograph to a restored one: search, confirm, solve, write back; files and folders."""
