"""From a photograph to a restored one: search, confirm, solve, blend."""
