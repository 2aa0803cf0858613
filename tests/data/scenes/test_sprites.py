"""The sprites of the package: there, decodable, named once, and tinted only in colour."""

import csv
from importlib import import_module
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from dalle3_jax.data.scenes.concepts import COLUMNS, CONCEPTS, SPRITES, STYLES, Concept, read_concepts
from dalle3_jax.data.scenes.sprites import compositing_parts, load_sprite
from dalle3_jax.data.scenes.tints import TINTS, dominant_tint

SCRIPTS = Path(__file__).parents[3] / "scripts"
BY_NAME = {concept.name: concept for concept in CONCEPTS}
TINTED = [concept for concept in CONCEPTS if concept.tints]
FIRST = ["panda", "frog", "penguin", "pig", "mouse", "fox", "owl", "flamingo"]
SPOKEN = {"unicorn": "yunicorn", "hourglass": "ourglass"}
GREY = ("panda", "penguin", "zebra", "wolf", "koala", "ghost", "rock", "rainbow")
ROW = {"name": "blob", "plural": "blobs", "article": "a", "code": "", "styles": "photo", "tints": "red"}


def hue_distance(a: float, b: float) -> float:
    return abs((a - b + 180.0) % 360.0 - 180.0)


def test_the_world_is_wide():
    assert len(CONCEPTS) >= 300
    for style in STYLES:
        assert sum(style in concept.styles for concept in CONCEPTS) >= (300 if style == "3d" else 150), style
    assert len(TINTED) >= 60
    assert set(TINTS) == {tint for concept in CONCEPTS for tint in concept.tints}


def test_names_are_unambiguous():
    words = [concept.name for concept in CONCEPTS] + [c.plural for c in CONCEPTS if c.plural != c.name]
    assert len(set(words)) == len(words)
    assert len({concept.code for concept in CONCEPTS}) == len(CONCEPTS)
    assert len({concept.file_stem for concept in CONCEPTS}) == len(CONCEPTS)
    assert not set(TINTS) & set(words)
    for concept in CONCEPTS:
        assert 1 <= len(concept.name.split()) <= 3
        spoken = SPOKEN.get(concept.name, concept.name)
        assert concept.article == ("an" if spoken[0] in "aeiou" else "a"), concept.name


def test_the_first_concepts_keep_their_places():
    assert [concept.name for concept in CONCEPTS[:8]] == FIRST
    assert CONCEPTS[47].name == "alarm clock"
    assert (BY_NAME["mouse"].plural, BY_NAME["sheep"].plural, BY_NAME["cactus"].plural) == ("mice", "sheep", "cacti")


def test_every_sprite_is_a_small_cropped_picture_and_no_other_is_shipped():
    expected = {f"{style}/{concept.file_stem}.webp" for concept in CONCEPTS for style in concept.styles}
    found = {path.relative_to(SPRITES).as_posix() for path in Path(str(SPRITES)).rglob("*.webp")}
    assert found == expected
    for name in sorted(found):
        image = Image.open(BytesIO((SPRITES / name).read_bytes()), formats=["WEBP"])
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        assert max(image.size) == 128, name
        assert (alpha[[0, -1]].max(1) > 0).all(), name
        assert (alpha[:, [0, -1]].max(0) > 0).all(), name
    assert sum((SPRITES / name).stat().st_size for name in found) < 5_000_000


@pytest.mark.parametrize("style", STYLES)
def test_sprites_fill_their_square_and_are_premultiplied(style):
    for concept in CONCEPTS:
        for side in (13, 40):
            pixels = load_sprite(concept, style, side)
            assert pixels.shape == (side, side, 4)
            assert not pixels.flags.writeable
            assert (pixels[..., :3] <= pixels[..., 3:]).all(), concept.name
        rows, columns = (np.flatnonzero((pixels[..., 3] > 8).any(axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) >= side - 3, concept.name
        assert abs(rows[0] - (side - 1 - rows[-1])) <= 2, concept.name
        assert abs(columns[0] - (side - 1 - columns[-1])) <= 2, concept.name


def test_a_tint_changes_the_hue_and_nothing_of_the_shape():
    for i, concept in enumerate(TINTED):
        style = STYLES[i % 3]
        for tint in concept.tints:
            plain, tinted = load_sprite(concept, style, 48), load_sprite(concept, style, 48, tint)
            assert (tinted[..., 3] == plain[..., 3]).all()
            assert (tinted[..., :3] <= tinted[..., 3:]).all()
            assert hue_distance(dominant_tint(tinted).hue, TINTS[tint].hue) < 25, (concept.name, style, tint)
            assert np.abs(tinted.astype(int) - plain).max() > 40, (concept.name, style, tint)


def test_a_tint_leaves_grey_and_other_hues_alone():
    plain, tinted = (load_sprite(BY_NAME["ladybug"], "flat", 64, tint).astype(int) for tint in ("", "blue"))
    opaque = plain[plain[..., 3] == 255], tinted[plain[..., 3] == 255]
    grey = np.ptp(opaque[0][:, :3], axis=1) < 0.05 * opaque[0][:, :3].max(1)
    assert grey.sum() > 50
    assert (opaque[0][grey] == opaque[1][grey]).all()
    rose, blue = (load_sprite(BY_NAME["rose"], "flat", 64, tint).astype(int) for tint in ("", "blue"))
    leaf = (rose[..., 3] == 255) & (rose[..., 1] > rose[..., 0] + 40)
    assert leaf.sum() > 50
    assert (rose[leaf] == blue[leaf]).all()


def test_a_tint_keeps_the_order_of_light():
    plain, tinted = (load_sprite(BY_NAME["apple"], "3d", 96, tint)[30:90, 20:80] for tint in ("", "blue"))
    before, after = (picture[..., :3].max(2).ravel().astype(float) for picture in (plain, tinted))
    assert np.corrcoef(before, after)[0, 1] > 0.5


@pytest.mark.parametrize("name", GREY)
def test_what_has_no_one_hue_has_no_tint(name):
    assert BY_NAME[name].tints == ()
    with pytest.raises(ValueError, match="it has the styles"):
        load_sprite(BY_NAME[name], "3d", 24, "red")


def test_a_style_that_a_concept_lacks_is_refused():
    with pytest.raises(ValueError, match="photo"):
        compositing_parts(CONCEPTS[0], "photo", 24)


@pytest.mark.parametrize("side", [24, 100, 300])
def test_the_paste_form_is_the_sprite(side):
    colours, rest = compositing_parts(BY_NAME["apple"], "noto", side, "green")
    picture = load_sprite(BY_NAME["apple"], "noto", side, "green")
    assert (colours == picture[..., :3]).all()
    assert (rest == 255 - picture[..., 3:].astype(int)).all()


def pack(folder: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    """A pack with one drawn picture, blob."""
    (folder / "photo").mkdir(exist_ok=True)
    Image.new("RGBA", (8, 4), (200, 30, 30, 255)).save(folder / "photo/blob.webp", lossless=True)
    with (folder / "concepts.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_a_pack_is_read_and_drawn_from_its_own_folder(tmp_path):
    waiting = ROW | {"name": "later", "plural": "laters", "styles": ""}
    (blob,) = read_concepts(pack(tmp_path, ROW, waiting))
    assert blob == Concept("blob", "blobs", "", "a", ("photo",), ("red",), (("photo", str(tmp_path)),))
    picture = load_sprite(blob, "photo", 16)
    assert (picture[5:11, :, 3] > 200).all()
    assert (picture[:3, :, 3] == 0).all()
    assert np.abs(picture[8, 8, :3].astype(int) - (200, 30, 30)).max() < 4


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((), "no rows"),
        ((ROW, ROW), "'blob' stands 2 times"),
        ((ROW | {"name": ""},), "needs a name"),
        ((ROW | {"name": "../blob"},), "without a slash"),
        ((ROW | {"plural": ""},), "a plural"),
        ((ROW | {"article": "the"},), "the article a or an"),
        ((ROW | {"styles": "oil"},), "no sprite in the style 'oil'"),
        ((ROW | {"name": "blot"},), "no sprite in the style 'photo'"),
        ((ROW | {"tints": "beige"},), "no tint beige"),
    ],
)
def test_a_bad_row_is_refused(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        read_concepts(pack(tmp_path, *rows))


def test_a_table_without_a_column_is_refused_and_every_problem_is_told(tmp_path):
    with pytest.raises(ValueError, match="does not have the columns"):
        read_concepts(pack(tmp_path, ROW, columns=COLUMNS[:-1]))
    with pytest.raises(ValueError, match=r"line 2.*'oil'.*line 3.*beige"):
        read_concepts(pack(tmp_path, ROW | {"styles": "oil"}, ROW | {"name": "blob ", "tints": "beige"}))


def test_fonts_are_small_and_have_all_letters():
    fonts = sorted(Path(str(files("dalle3_jax.data.scenes") / "fonts")).glob("*.ttf"))
    assert len(fonts) >= 5
    assert sum(font.stat().st_size for font in fonts) < 700_000
    for path in fonts:
        font = ImageFont.truetype(path, 32)
        missing = bytes(font.getmask("\U000e0000"))
        letters = [chr(code) for code in (*range(48, 58), *range(65, 91), *range(97, 123))]
        assert all(bytes(font.getmask(letter)) not in (b"", missing) for letter in letters), path.name
        notice = (Path(__file__).parents[3] / "NOTICE").read_text()
        assert path.stem in notice.replace(" ", ""), f"NOTICE does not speak of {path.name}"


def test_the_pack_of_stamps_brings_their_licences(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    script = import_module("add_sprites")

    def stamps(scratch):
        notice = scratch / "usr/share/doc/tuxpaint-stamps-default/copyright"
        notice.parent.mkdir(parents=True)
        notice.write_text("Files: *")
        yield Concept("blob", "blobs", "", "a", ("photo",)), Image.new("RGBA", (8, 4), (200, 30, 30, 255))

    monkeypatch.setattr(script, "stamps", stamps)
    assert script.write("tuxpaint", tmp_path / "pack") == 1
    assert (tmp_path / "pack/copyright").read_text() == "Files: *"
    assert [concept.name for concept in read_concepts(tmp_path / "pack")] == ["blob"]


def test_the_notice_names_every_release_that_was_trained_on_the_sprites():
    notice = (Path(__file__).parents[3] / "NOTICE").read_text()
    releases = Path(str(files("dalle3_jax"))) / "releases"
    assert [folder.name for folder in releases.iterdir() if f"releases/{folder.name}/" not in notice] == []
