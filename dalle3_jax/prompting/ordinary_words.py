"""Ordinary words of prompts, by kind: those that name nothing which would have to be drawn.

Closed lists of the commonest; what a word is by its form is decided in `dalle3_jax.prompting.word_kinds`.
"""

__all__ = ["ADJECTIVES", "DETERMINERS", "EMPTY", "FUNCTION", "GENERAL", "IRREGULAR", "STYLE", "VERBS"]


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


EMPTY = word_set(
    """
    a an the and or but of in on at to for with by from as is are be was were there here it its this that these
    those them they their his her him he she you your me my i we our us one ones some any each other another
    just only also very really so then than into onto over under above below between next left right behind
    front top bottom side near upper lower centre center middle see please draw paint make create generate show
    shows showing depict depicts picture image photo photograph drawing illustration painting render give want
    need would like can could should must will have has having being do does up out off where while which who
    whose what when how all both exactly together
    """
)
"""Words that ask for nothing by themselves."""
DETERMINERS = word_set(
    """
    a an the one single no some any my your his her its our their this that these those every each another two three
    four five six seven eight nine ten eleven twelve many several few lots
    """
)

VERBS = word_set(
    """
    add appear arrange ask attack balance bark be bear become begin blow bounce break breathe bring build burn
    buy call capture carry catch celebrate change chase check chew clean climb close come contain cook count
    cover crash crawl cross cry cut dance decorate depict describe dig dive do draw dress drink drive drop eat
    emit enjoy enter erupt explode explore express face fall feature feed feel fight fill find float fly fold
    follow frame get give glow go grab grill grin grow hang hatch have help hide hit hold hop hover howl hug
    hunt imagine include jog juggle jump keep kick kiss knit land laugh lay lead lean leap learn leave let lick
    lie lift like line live look lose love make march meditate meet melt move need open orbit pack paint park
    peek perch pick place plant play point pose pour practice pull push put race reach read relax rest ride rise
    roar roll run sail say sell send serve set sew shine shoot shop show sing sit skate skateboard ski skydive
    sleep slide smell smile smoke sneak snow snuggle soar spell spin splash spread sprint stack stand stare stay
    steal step stick stretch strike stroll surf surround swim swing take talk taste teach tell think throw tie
    touch travel try turn use visit wait wake walk want watch wave wear work wrap write yawn
    """
)
IRREGULAR = word_set(
    """
    ate been began broke brought built came caught did drank drawn drew drove eaten fallen fell felt flew flown
    fought found gave given gone got grew grown had held hid hung kept laid lay led left lit lost made met put
    ran ridden rode rose sang sat saw seen sent shone shot slept sold stood stuck swam taken thrown told took
    torn went woke wore worn wrapped written wrote lying dying tied
    """
)
ADJECTIVES = word_set(
    """
    adorable alone amazing ancient angry antique awesome baby bad beautiful beige best better big bizarre black
    blank blurry bold brave bright brilliant broken bronze brown busy calm cheerful chilly chubby circular
    classic clean clear clever closed cold colorful colourful common complete cool cosy cozy cracked crazy
    crowded cuddly curious curly cute dark dead deep delicate delicious detailed different dirty dramatic dry
    dull dusty elegant empty enormous entire epic evil exotic expensive extra fancy fantastic fast fat festive
    fierce fine first flat fluffy foggy folded fragile fresh friendly front frozen full funny furry futuristic
    gentle giant gigantic gloomy glossy glowing golden good gorgeous grand gray great grey grumpy hairy
    handsome happy hard healthy heavy high hot huge hungry icy identical incredible jolly juicy juvenile kind
    large last lazy light lit little lone lonely long loud lovely low lucky luxurious mad magical magnificent
    main majestic massive mature medium mighty mini miniature misty modern moody mysterious mystical narrow
    natural neat new nice old open orderly original other outer overgrown own pale peaceful perfect plain
    playful plump polite poor powerful pretty proud pure quick quiet rainy random rare raw ready real realistic
    regal rich ripe rotten rough round royal rustic rusty sad same scary serene shaggy shallow sharp shiny short
    shy sick silly silver simple sleepy slim slow small smart smiling smooth snowy soft solitary special spiky
    spooky spotted square stormy straight strange striped strong stunning sunny super surreal sweet swift tall
    tasty tender thick thin tiny tired top tough traditional transparent triangular tropical twin typical ugly
    unique unusual vast vibrant vintage warm weird wet whimsical white whole wide wild windy wise wooden woolly
    worn wrong young yummy
    """
)
STYLE = word_set(
    """
    3d 4k 8k abstract acrylic aesthetic angle anime art artistic artstation artwork bokeh canon caricature
    cartoon cartoonish cgi cinema4d cinematic clipart close-up closeup collage color colors colour colours comic
    composition concept contrast crayon cubism cubist cyberpunk dalle design detail details digital disney dof
    drawn dslr emoji fantasy film flat fluent focus ghibli gouache graffiti graphic graphics hd hdr icon
    illustrated illustrator impasto impressionism impressionist ink isometric kawaii landscape lens lighting
    lights linocut logo low-poly lowpoly macro manga masterpiece matte midjourney minimal minimalism minimalist
    minimalistic monochrome mosaic noir noto octane oil origami painted palette panorama pastel pencil
    perspective photographic photography photorealism photorealistic picasso pixar pixel pixelart pop portrait
    poster quality realism render rendered rendering resolution retro rgb scene sci-fi scifi shadow shadows shot
    silhouette sketch steampunk stencil still-life studio style styled stylised stylized surrealism texture
    trending uhd unreal vaporwave vector view viewed volumetric wallpaper watercolor watercolour woodcut
    """
)
GENERAL = word_set(
    """
    afternoon ambience anything arrangement aspect atmosphere back backdrop background banner border bunch
    caption center centre clock-wise close copy corner corners couple day daylight depth distance dozen edge
    else everything example feature foreground format frame front-facing fun group half horizon kind label
    labeled labelled letter letterbox lettering letters light look looks lot lots margin mid middle moment mood
    moonlight morning noon nothing number order pair part pattern piece place plenty position prompt ratio
    request row rows scenery set setting shape side sides sign signs size slice slogan someone something sort
    spot stack sunlight sunshine symmetry text thing things time title today type variety version vibe vibes
    wallpaper way word words writing
    """
)
FUNCTION = word_set(
    """
    about across after again against ah all along alongside already although always am amid among amongst
    anywhere apart aren't around aside away because before beneath beside besides beyond but can't cannot
    despite doesn't don't down during either enough even ever every everywhere except far few hello hey hi hmm
    however i'd i'm if in inside instead isn't it's just least less let's lets maybe me more mostly much myself
    near nearby neither never none nor not now of often ok okay once only onto opposite or ought outside over
    own past per perhaps please quite rather really round same shall since so soon still such thank thanks
    that's there's though through throughout thus till together too toward towards twice underneath unless until
    up upon upside us versus via vs well whether with within without yes yet
    """
)
