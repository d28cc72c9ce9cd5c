"""The word pools and sentence patterns of Funes's world (data only)."""

from __future__ import annotations


def _words(text: str) -> list[str]:
    return text.split()


def _scene(**roles: str) -> dict[str, list[str]]:
    """One place and what may be said of it; options are separated by commas."""
    return {role: options.split(", ") for role, options in roles.items()}


FIRST_NAMES = _words(
    "Ada Bruno Clara Dario Edith Felix Greta Hugo Ines Jonas Karin Leon Mara Nils Olga Pavel Rosa Stefan Tilda Umberto "
    "Vera Walter Xenia Yann Zora Anton Berta Cyril Dora Emil Frida Gustav Helga Ivo Judith Klaus Lena Milo Nora Oskar"
)

SURNAMES = _words(
    "Marsh Holt Vane Quill Thorne Lund Brack Sorrel Wick Pell Darrow Finch Garrow Hale Ives Jarrow Kestle Lorne Moss "
    "Nash Orme Pryor Rusk Stroud Tarn Usher Voss Wren Yarrow Zell Ambler Birch Croft Dunn Esker Frost Gill Hart Irving "
    "Kemp"
)

VALUES = {
    "town": _words(
        "Orlin Brevik Castor Dunmere Elvast Farrowby Gilden Harwick Istra Jorvale Kelmar Lindow Morven Nethery Ostrel "
        "Pellam Quarne Rothwen Selwick Tamsel Ulverton Varlen Westrel Yarmoor Zelden Ashby Bramford Corvel Drayton "
        "Emberley Fenwick Galdor"
    ),
    "profession": _words(
        "baker sailor teacher weaver painter doctor carpenter judge printer gardener tailor miller barber lawyer "
        "glazier potter surgeon librarian cobbler brewer mason locksmith clockmaker beekeeper fisherman shepherd "
        "blacksmith translator chemist banker"
    ),
    "animal": _words(
        "cat dog parrot goat rabbit tortoise raven pony hedgehog canary ferret lizard donkey squirrel falcon peacock "
        "hamster snake llama piglet monkey badger magpie toad"
    ),
    "food": _words(
        "bread soup cheese rice porridge cake salad stew pudding honey fish mushrooms noodles dumplings pancakes plums "
        "cherries walnuts beans olives chocolate pears cabbage lentils"
    ),
}

COUNTRIES = _words("Arvenia Belmora Cordania Dravia Estoria Falmark Gorland Helvara")

# The last phrasing of each relation is the one that half of the people never meet in training.
PHRASINGS = {
    "town": [
        "{} lives in",
        "The house of {} stands in",
        "Letters to {} are sent to",
        "You will find {} in",
        "Today the family of {} lives in",
    ],
    "profession": [
        "{} works as a",
        "By trade {} is a",
        "People know {} as a good",
        "Every morning {} begins work as a",
        "For many years {} has been a",
    ],
    "animal": [
        "{} keeps a",
        "The pet of {} is a",
        "In the garden of {} sleeps a",
        "At home {} looks after a",
        "The neighbours often see {} with a",
    ],
    "food": [
        "{} likes to eat",
        "The favourite food of {} is",
        "For dinner {} always orders",
        "On Sundays {} cooks",
        "Friends of {} always bring",
    ],
}

COUNTRY_PHRASINGS = [
    "{} lies in",
    "The town of {} belongs to",
    "The country of {} is",
    "Whoever lives in {} lives in",
]

TWO_HOP = "The country where {} lives is"

TEMPLATES = (
    "The {adjective} {noun} {verb} {place} .",
    "{time} the {noun} {verb} {place} .",
    "{time} the {adjective} {noun} {verb} {place} .",
    "The {noun} {verb} {place} and it was {adjective} .",
)


SCENES = (
    _scene(
        noun="river, boat, bridge, ferry, current, raft",
        adjective="slow, wide, muddy, calm, swollen, shallow",
        verb="moved, drifted, glittered, rested, turned, trembled",
        place="under the willows, beside the reeds, below the weir, past the meadow",
        time="At dawn, After the flood, In spring",
    ),
    _scene(
        noun="market, stall, basket, merchant, crowd, scale",
        adjective="noisy, colourful, cheap, busy, crowded, cheerful",
        verb="waited, opened, stood, gathered, spilled, grew",
        place="near the fountain, on the square, behind the church, between the wagons",
        time="On Friday, Before noon, At the fair",
    ),
    _scene(
        noun="storm, rain, wind, cloud, thunder, hail",
        adjective="heavy, sudden, wild, grey, loud, violent",
        verb="arrived, passed, returned, rolled, broke, faded",
        place="over the hills, from the north, across the valley, towards the coast",
        time="In autumn, All night, Without warning",
    ),
    _scene(
        noun="forest, oak, fern, path, owl, stream",
        adjective="dark, ancient, green, silent, mossy, narrow",
        verb="lay, whispered, waited, wound, vanished, slept",
        place="among the pines, in the shade, beyond the ridge, deep in the hollow",
        time="At dusk, In summer, Under the moon",
    ),
    _scene(
        noun="harbour, ship, gull, lantern, anchor, sail",
        adjective="salty, rusty, white, foggy, proud, torn",
        verb="swayed, glowed, cried, creaked, arrived, rested",
        place="along the quay, by the lighthouse, at the pier, off the rocks",
        time="At high tide, Towards evening, In the fog",
    ),
    _scene(
        noun="kettle, oven, spoon, stove, pot, kitchen",
        adjective="hot, copper, clean, steaming, tiny, cosy",
        verb="whistled, boiled, cooled, hummed, smoked, rattled",
        place="on the shelf, next to the window, in the corner, above the fire",
        time="Before breakfast, At noon, During supper",
    ),
    _scene(
        noun="school, pupil, bell, lesson, book, blackboard",
        adjective="strict, young, long, dusty, patient, difficult",
        verb="began, ended, rang, stayed, paused, continued",
        place="in the hall, upstairs, behind the desk, across the yard",
        time="On Monday, In the morning, After the holidays",
    ),
    _scene(
        noun="garden, rose, hedge, bee, path, gate",
        adjective="sweet, wet, blooming, sunny, tidy, fragrant",
        verb="flowered, shone, buzzed, ripened, opened, dried",
        place="along the wall, near the pond, behind the cottage, in the sun",
        time="In May, After the rain, Every June",
    ),
    _scene(
        noun="snow, frost, icicle, sledge, lake, fireplace",
        adjective="cold, frozen, deep, crisp, pale, bright",
        verb="melted, sparkled, cracked, fell, lingered, settled",
        place="on the roof, across the fields, at the window, beneath the stars",
        time="In winter, At midnight, In January",
    ),
    _scene(
        noun="road, wagon, traveller, milestone, inn, coach",
        adjective="weary, lonely, broken, steep, stony, late",
        verb="stopped, hurried, climbed, halted, appeared, waited",
        place="at the crossroads, before the pass, outside the walls, on the hill",
        time="Towards nightfall, On Sunday, After a mile",
    ),
    _scene(
        noun="orchestra, singer, dancer, song, violin, drum",
        adjective="merry, gentle, famous, solemn, quick, tender",
        verb="played, echoed, stopped, followed, swelled, started",
        place="in the theatre, on the stage, through the night, for the guests",
        time="At the wedding, On Saturday, After the toast",
    ),
    _scene(
        noun="mill, wheel, sack, field, harvest, barn",
        adjective="wooden, golden, dry, full, ripe, dusty",
        verb="turned, stood, burned, leaned, creaked, swelled",
        place="by the brook, under the sky, behind the farm, along the lane",
        time="In August, After the harvest, At sunrise",
    ),
)
