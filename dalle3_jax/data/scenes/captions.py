"""What is said of a scene, in three versions, by sentence patterns that are tables.

`alt` is short and noisy as alternative texts on the web are, `short` names the main subject only, `descriptive` says
everything: the objects, how many, where they are, and the background.
"""

from dalle3_jax.data.draws import choose
from dalle3_jax.data.scenes.scene import Scene
from dalle3_jax.data.scenes.world import World

NUMBERS = {2: "two", 3: "three", 4: "four"}


def captions(world: World, scene: Scene, seed: int, index: int) -> dict[str, str]:
    """The three captions of a scene; which patterns they follow depends on (seed, index)."""
    fields = words(world, scene, seed, index)
    return {"short": choose(("{subject}",), seed, index, "short").format(**fields)}


def words(world: World, scene: Scene, seed: int, index: int) -> dict[str, str]:
    """What the blanks of a pattern are filled with."""
    first = world.concept(scene.concepts[0])
    return {"subject": f"{first.article} {first.name}"}
