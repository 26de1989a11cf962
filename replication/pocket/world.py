"""What is true in the pocket world: facts, scripts, fairs, and how people behave.

About 740 facts (160 towns with a river, a ware, a gate colour and a ruler; 32 people with a job, a pet and a
home), 20 everyday scripts of five steps, 80 town fairs of four events each, and 10 situations in which each
person always does the same. Only data and the words for it; `source.py` turns them into text and benchmarks.
"""

from dataclasses import dataclass
from functools import cache

from replication.pocket.names import PEOPLE, names, pick, shuffled, stream

COLOURS = (
    "red",
    "blue",
    "green",
    "white",
    "black",
    "yellow",
    "brown",
    "grey",
    "golden",
    "silver",
    "purple",
    "orange",
)
WARES = (
    "wool",
    "salt",
    "honey",
    "iron",
    "glass",
    "cheese",
    "paper",
    "rope",
    "silk",
    "oil",
    "wine",
    "bread",
    "fish",
    "tea",
    "candles",
    "shoes",
    "hats",
    "knives",
    "bells",
    "boats",
    "carts",
    "drums",
    "clocks",
    "soap",
)
JOBS = (
    "baker",
    "smith",
    "fisher",
    "weaver",
    "miller",
    "tailor",
    "painter",
    "carpenter",
    "gardener",
    "teacher",
    "sailor",
    "cook",
    "potter",
    "hunter",
)
PETS = (
    "dog",
    "cat",
    "goat",
    "horse",
    "duck",
    "rabbit",
    "parrot",
    "mouse",
    "sheep",
    "donkey",
    "goose",
    "owl",
)


@dataclass(frozen=True)
class Relation:
    """One kind of fact: how it is stated and asked ({s} subject, {v} value)."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]


RELATIONS = {
    "river": Relation(
        (
            "{s} lies on the river {v}.",
            "The river that runs through {s} is the {v}.",
            "People in {s} drink from the river {v}.",
            "Boats that leave {s} sail down the {v}.",
        ),
        (
            "Which river runs through {s}?",
            "On which river does {s} lie?",
            "Which river do people in {s} drink from?",
        ),
    ),
    "ware": Relation(
        (
            "{s} is known for its {v}.",
            "The people of {s} sell {v}.",
            "In the market of {s} you can buy {v}.",
            "Carts from {s} are full of {v}.",
        ),
        (
            "What is {s} known for?",
            "What do the people of {s} sell?",
            "What can you buy in the market of {s}?",
        ),
    ),
    "gate": Relation(
        (
            "The gate of {s} is {v}.",
            "In {s} they painted the gate {v}.",
            "You enter {s} through a gate that is {v}.",
            "The colour of {s} is {v}.",
        ),
        (
            "Which colour is the gate of {s}?",
            "What is the colour of {s}?",
            "In {s}, which colour did they paint the gate?",
        ),
    ),
    "ruler": Relation(
        (
            "{s} is ruled by {v}.",
            "The ruler of {s} is {v}.",
            "In {s} everyone listens to {v}.",
            "The keys of {s} belong to {v}.",
        ),
        ("Who rules {s}?", "Who is the ruler of {s}?", "To whom do the keys of {s} belong?"),
    ),
    "job": Relation(
        ("{s} is a {v}.", "{s} works as a {v}.", "By trade {s} is a {v}.", "Everyone knows {s} the {v}."),
        ("What is the job of {s}?", "What does {s} work as?", "What is {s} by trade?"),
    ),
    "pet": Relation(
        ("{s} has a {v}.", "{s} keeps a {v}.", "At home {s} feeds a {v}.", "The pet of {s} is a {v}."),
        ("Which pet does {s} have?", "What is the pet of {s}?", "What does {s} feed at home?"),
    ),
    "home": Relation(
        ("{s} lives in {v}.", "The home of {s} is {v}.", "{s} was born in {v}.", "{s} has a house in {v}."),
        ("Where does {s} live?", "In which town is the home of {s}?", "Where was {s} born?"),
    ),
}
TOWN_RELATIONS = ("river", "ware", "gate", "ruler")
PERSON_RELATIONS = ("job", "pet", "home")

SCRIPTS = {
    "bake a loaf": "mixed the flour|kneaded the dough|shaped the loaf|heated the oven|took out the loaf",
    "brew tea": "filled the kettle|lit the stove|boiled the water|poured the cup|drank the tea",
    "catch a fish": "dug for worms|rowed to the deep|cast the line|felt a pull|lifted the fish",
    "wash a shirt": "fetched some water|rubbed in the soap|rinsed the cloth|wrung it out|hung it up",
    "plant a tree": "chose a seedling|dug a hole|set the roots|filled the earth|watered the stem",
    "send a letter": "found some paper|wrote the lines|folded the sheet|sealed it with wax|called the courier",
    "paint a fence": "scraped the boards|opened the can|stirred the paint|dipped the brush|coated the wood",
    "light a fire": "gathered twigs|stacked the logs|struck a match|blew on the flame|warmed both hands",
    "shoe a horse": "tied the reins|raised the hoof|removed the nail|hammered the iron|led it away",
    "sew a coat": "measured the arms|cut the cloth|threaded a needle|stitched the seams|tried it on",
    "mend a roof": "carried the ladder|climbed to the top|pulled off tiles|nailed new ones|came down again",
    "milk a goat": "opened the shed|set down a stool|placed the bucket|squeezed gently|carried in the milk",
    "carve a spoon": "split a branch|drew the shape|took a knife|cut the bowl|sanded the edge",
    "cross the sea": "packed a chest|boarded the ship|raised the sail|steered by stars|reached the harbour",
    "hold a feast": "invited friends|set the table|roasted meat|served the guests|cleared the plates",
    "sell a cow": "brushed its coat|walked to market|named a price|shook hands|counted the coins",
    "heal a wound": "cleaned the skin|crushed some herbs|spread the paste|wrapped a bandage|rested all day",
    "learn a song": "heard the tune|hummed along|read the words|sang it slowly|sang it by heart",
    "win a race": "laced the boots|stood at the line|heard the horn|ran down the hill|crossed the mark",
    "build a wall": "drew a plan|dragged the stones|mixed the mortar|laid the rows|smoothed the top",
}

EVENTS = (
    "dance in the square",
    "drum at the gate",
    "race on the river",
    "throw apples",
    "light the lamps",
    "crown the oldest",
    "bury a bell",
    "burn a straw man",
    "sing on the roofs",
    "wash the statue",
    "feed the birds",
    "ring the bells",
    "wrestle in mud",
    "share a pie",
    "carry a boat",
    "hide the keys",
    "paint the doors",
    "wear masks",
    "float candles",
    "jump over ropes",
    "toast the ruler",
    "march in silence",
    "plant a flag",
    "weigh the pigs",
)

# (what happens to {a} and {b}, what one kind of person then does, what the other kind does)
SITUATIONS = (
    ("a bear came to {a} and {b}", "ran away", "stood still"),
    ("rain fell on {a} and {b}", "went inside", "sang in the rain"),
    ("{a} and {b} found a coin", "gave it away", "kept it"),
    ("{a} and {b} had one cake", "ate it all", "shared it"),
    ("{a} and {b} lost the race", "laughed about it", "wept all day"),
    ("a stranger greeted {a} and {b}", "smiled back", "looked away"),
    ("{a} and {b} came to the river", "swam across", "took the bridge"),
    ("the bell woke {a} and {b}", "rose at once", "slept on"),
    ("{a} and {b} saw a snake", "picked it up", "screamed loudly"),
    ("{a} and {b} got a letter", "burnt it", "answered it"),
)


@dataclass(frozen=True)
class Fact:
    """One fact; `held_out` is the index of the question that no training text asks about it."""

    relation: str
    subject: str
    value: str
    held_out: int


@cache
def facts_of_world() -> tuple[Fact, ...]:
    """All facts, towns first, in a fixed order."""
    rng = stream("facts")
    made = []
    for town in towns():
        for relation in TOWN_RELATIONS:
            made.append(Fact(relation, town, pick(rng, values(relation)), int(rng.integers(3))))
    for person in PEOPLE:
        for relation in PERSON_RELATIONS:
            made.append(Fact(relation, person, pick(rng, values(relation)), int(rng.integers(3))))
    return tuple(made)


@cache
def towns() -> tuple[str, ...]:
    """The towns' names."""
    return tuple(name.capitalize() for name in names("town"))


@cache
def values(relation: str) -> tuple[str, ...]:
    """Every value a relation can take."""
    rivers = tuple(name.capitalize() for name in names("river"))
    taken = {"river": rivers, "ware": WARES, "gate": COLOURS, "ruler": PEOPLE, "job": JOBS, "pet": PETS}
    return tuple({**taken, "home": towns()}[relation])


@cache
def fairs() -> dict[str, tuple[str, ...]]:
    """Town -> the four events of its fair, in order (80 towns hold one)."""
    rng = stream("fairs")
    return {town: tuple(shuffled(rng, EVENTS)[:4]) for town in towns()[:80]}


def script_steps(script: str) -> list[str]:
    """The five steps of an everyday script, in order."""
    return SCRIPTS[script].split("|")


@cache
def behaviours() -> dict[tuple[str, int], int]:
    """(person, index of a situation) -> 0 or 1: which of its two behaviours the person shows."""
    rng = stream("behaviours")
    return {(person, i): int(rng.integers(2)) for person in PEOPLE for i in range(len(SITUATIONS))}
