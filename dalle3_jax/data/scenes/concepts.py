"""The concepts of the embedded dataset: a name, its plural, and the code points of its emoji.

A new concept is one more row; `scripts/make_sprites.py` fetches its sprite.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Concept:
    """A thing that can stand in a scene; the article is "a" unless the row says otherwise."""

    name: str
    plural: str
    code: str
    article: str = "a"

    @property
    def file(self) -> str:
        """The name of its sprite without the suffix."""
        return self.name.replace(" ", "_")


CONCEPTS = (
    Concept("panda", "pandas", "1f43c"),
    Concept("frog", "frogs", "1f438"),
    Concept("penguin", "penguins", "1f427"),
    Concept("pig", "pigs", "1f437"),
    Concept("mouse", "mice", "1f42d"),
    Concept("fox", "foxes", "1f98a"),
    Concept("owl", "owls", "1f989", "an"),
    Concept("flamingo", "flamingos", "1f9a9"),
    Concept("elephant", "elephants", "1f418", "an"),
    Concept("whale", "whales", "1f433"),
    Concept("turtle", "turtles", "1f422"),
    Concept("butterfly", "butterflies", "1f98b"),
    Concept("ladybug", "ladybugs", "1f41e"),
    Concept("crab", "crabs", "1f980"),
    Concept("sheep", "sheep", "1f411"),
    Concept("zebra", "zebras", "1f993"),
    Concept("apple", "apples", "1f34e", "an"),
    Concept("banana", "bananas", "1f34c"),
    Concept("watermelon", "watermelons", "1f349"),
    Concept("pineapple", "pineapples", "1f34d"),
    Concept("carrot", "carrots", "1f955"),
    Concept("eggplant", "eggplants", "1f346", "an"),
    Concept("avocado", "avocados", "1f951", "an"),
    Concept("mushroom", "mushrooms", "1f344"),
    Concept("hamburger", "hamburgers", "1f354"),
    Concept("donut", "donuts", "1f369"),
    Concept("cupcake", "cupcakes", "1f9c1"),
    Concept("rocket", "rockets", "1f680"),
    Concept("bus", "buses", "1f68c"),
    Concept("tractor", "tractors", "1f69c"),
    Concept("airplane", "airplanes", "2708-fe0f", "an"),
    Concept("sailboat", "sailboats", "26f5"),
    Concept("train", "trains", "1f682"),
    Concept("helicopter", "helicopters", "1f681"),
    Concept("umbrella", "umbrellas", "2602-fe0f", "an"),
    Concept("guitar", "guitars", "1f3b8"),
    Concept("soccer ball", "soccer balls", "26bd"),
    Concept("castle", "castles", "1f3f0"),
    Concept("cactus", "cacti", "1f335"),
    Concept("sunflower", "sunflowers", "1f33b"),
    Concept("star", "stars", "2b50"),
    Concept("heart", "hearts", "2764-fe0f"),
    Concept("snowman", "snowmen", "26c4"),
    Concept("diamond", "diamonds", "1f48e"),
    Concept("top hat", "top hats", "1f3a9"),
    Concept("kite", "kites", "1fa81"),
    Concept("robot", "robots", "1f916"),
    Concept("alarm clock", "alarm clocks", "23f0", "an"),
)
