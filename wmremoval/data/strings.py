"""Random texts of marks beside the phrases: names, domains, numbers, dates, credits and © lines."""

import numpy as np

FIRST_NAMES = (
    "Anna Ben Carla David Elena Felix Greta Hugo Ines Jonas Kira Leo Maria Noah Olga Paul Rosa Sven Tara Wim".split()  # noqa: SIM905
)
# Parts of random surnames.
SYLLABLES = "al bel cor dan el fin gar hal ir jun kel lo mar nor ov pa ri san tor ul ven wes yor zan".split()  # noqa: SIM905
ENDINGS = ("", "", "s", "er", "son", "man", "berg", "ova", "ini", "ez")
TRADES = (
    "Photography",
    "Photo",
    "Studio",
    "Images",
    "Pictures",
    "Media",
    "Stock",
    "Travel",
    "Archive",
    "News",
    "Design",
    "Press",
)
# Repeated entries are drawn more often.
DOMAINS = (".com", ".com", ".net", ".org", ".de", ".co.uk", ".photo", ".io", ".ru", ".fr")
# Single words that marks consist of.
WORDS = (
    "SAMPLE",
    "PREVIEW",
    "COPYRIGHT",
    "DRAFT",
    "PROOF",
    "COPY",
    "FREE TRIAL",
    "PAID",
    "SOLD",
    "DEMO",
    "stock",
    "watermark",
)


def surname(rng: np.random.Generator) -> str:
    """A made-up name of one to three syllables and an ending."""
    syllables = "".join(SYLLABLES[i] for i in rng.integers(len(SYLLABLES), size=rng.integers(1, 4)))
    return (syllables + ENDINGS[rng.integers(len(ENDINGS))]).capitalize()


def random_string(rng: np.random.Generator) -> str:
    """A random line of a mark, of 2 to about 40 characters, each a blank or one of `fonts.LETTERS`.

    Example:
        >>> random_string(np.random.default_rng(10))
        '© Yorgarelova Stock'
    """
    name, first, trade = surname(rng), FIRST_NAMES[rng.integers(len(FIRST_NAMES))], TRADES[rng.integers(len(TRADES))]
    year, number = int(rng.integers(1998, 2031)), int(rng.integers(10, 10**9))
    domain = name.lower() + (trade.lower() if rng.random() < 0.5 else "") + DOMAINS[rng.integers(len(DOMAINS))]
    kinds = (
        f"{first} {name}",
        f"{first[0]}. {name}",
        f"{name} {trade}",
        name.lower() + trade.lower(),
        name,
        domain,
        f"www.{domain}",
        f"@{name.lower()}_{trade.lower()}",
        f"© {year} {first} {name}",
        f"© {name} {trade}",
        f"Photo: {first} {name} / {trade}",
        f"Credit: {name}",
        f"{trade} | {name}",
        f"#{number}",
        f"{number:09d}",
        f"ID {name[:2].upper()}-{number % 10**6}",
        numeric_date(rng, year),
        WORDS[rng.integers(len(WORDS))],
    )
    return kinds[rng.integers(len(kinds))]


def numeric_date(rng: np.random.Generator, year: int) -> str:
    """A date in digits as cameras and agencies write it, sometimes with the time of day."""
    month, day, hour, minute = (int(rng.integers(*ends)) for ends in ((1, 13), (1, 29), (0, 24), (0, 60)))
    forms = (
        f"{year}-{month:02d}-{day:02d}",
        f"{day:02d}.{month:02d}.{year}",
        f"{month}/{day}/{year}",
        f"'{year % 100:02d} {month} {day}",
        f"{year}/{month:02d}/{day:02d} {hour:02d}:{minute:02d}",
        f"{hour:02d}:{minute:02d}",
    )
    return forms[rng.integers(len(forms))]
