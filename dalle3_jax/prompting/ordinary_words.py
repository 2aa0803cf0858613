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
    add appear approach arrange arrive ascend ask attack bake balance bark bathe be bear become begin belong
    bite bloom blow bounce break breathe brew bring build burn buy call camp capture carry cast catch celebrate
    change chase check cheer chew chop clap clean climb close come contain cook count cover crash crawl cross
    crouch crowd cruise cry cuddle cut dance dare dash decorate defend depict descend describe design dig dive
    do draw dream dress drift drink drive drop eat emit enjoy enter erupt escape explode explore express face
    fall feature feed feel fight fill find fit fix flap flicker float fly fold follow form frame freeze gallop
    get give gleam glide glow go grab grill grin grow growl guard hang happen hatch have hear help hide hike hit
    hold hop hover howl huddle hug hunt imagine include jog juggle jump keep kick kiss kneel knit know land
    laugh lay lead lean leap learn leave let lick lie lift like line live look loom lose lounge love make march
    meditate meet melt meow mix move munch nap need nestle nibble open operate orbit overlap pack paddle paint
    park pass peek peel perch perform photograph pick pilot place plant play point pose pour practice pray
    prepare print protect pull purr push put race reach read recognise recognize record reflect relax repair
    rescue resemble rest return ride rise roar roll rotate row run sail salute say scratch scream sculpt sell
    send serve set sew shimmer shine shoot shop shout show sing sink sip sit skate skateboard ski skydive sleep
    slide smell smile smoke sneak sniff snooze snow snuggle soar sparkle spell spin splash spray spread sprint
    squat squeeze stack stand stare stay steal steer step stick stir stretch strike stroll strum sunbathe surf
    surround swallow sway swim swing take talk tap taste teach tell think throw tie toss touch travel trip trot
    try tumble turn twinkle twirl type use visit wait wake walk wander want watch wave wear whisper wield wink
    work wrap write yawn zoom
    """
)
IRREGULAR = word_set(
    """
    ate been began broke brought built came caught chosen did drank drawn drew drove dying eaten fallen fell
    felt flew flown fought found gave given gone got grew grown had heard held hid hidden hung kept knew known
    laid lay led left lit lost lying made met put ran ridden rode rose sang sat saw seen sent shone shot shown
    slept sold spelt stood stuck swam taken thrown tied told took torn went woke wore worn wrapped written wrote
    """
)
ADJECTIVES = word_set(
    """
    adorable alone amazing ancient angry antique awesome baby bad beautiful beige best better big bizarre black
    blank blocky blurry bold brave bright brilliant broken bronze brown busy calm cheerful chilly chubby chunky
    circular classic clean clear clever closed cold colorful colourful common complete cool cosy cozy cracked
    crazy crisp crowded cuddly curious curly cute dark dead deep delicate delicious detailed different dirty
    dramatic dreamy dry dull dusty easy elegant empty enormous entire epic evil exotic expensive extra fancy
    fantastic fast fat festive fierce fine first flat fluffy foggy folded fragile fresh friendly front frozen
    full funny furry futuristic generous gentle giant gigantic gloomy glossy glowing golden good gorgeous grand
    gray great grey grumpy hairy handsome happy hard healthy heavy high horizontal hot huge hungry icy identical
    incredible jolly juicy juvenile kind large last lazy light lit little lone lonely long loud lovely low lucky
    lush luxurious mad magical magnificent main majestic massive mature medium mighty mini miniature misty
    modern moody muted mysterious mystical narrow natural neat new nice old open orderly original ornate other
    outer overgrown own pale panoramic peaceful perfect plain playful plump polite poor powerful pretty printed
    proud pure quick quiet rainy random rare raw ready real realistic regal rich ripe rotten rough round royal
    rustic rusty sad same scary serene shaggy shallow sharp shiny short shy sick silly silver simple sleek
    sleepy slim slow small smart smiling smooth snowy soft solitary soothing special spiky spooky spotted square
    squishy stormy straight strange striped strong stunning sunny super surreal sweet swift tall tasty tender
    thick thin tidy tight tiny tired top tough traditional transparent triangular tropical twin typical ugly
    unique unusual vast vertical vibrant vintage vivid warm weird wet whimsical white whole wide widescreen wild
    windy wise wooden woolly worn wrong young yummy
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
    afternoon ambience anybody anything arrangement aspect atmosphere back backdrop background banner bit border
    bunch caption center centre clock-wise close cluster column copy corner couple cover crop day daylight depth
    distance dozen edge effect else everybody everything example feature feel feeling focus foreground format
    frame front-facing fun genre group half horizon idea kind label labeled letter letterbox lettering light
    look lot margin mid middle moment mood moonlight morning nobody noon nothing number order outline page pair
    part pattern piece place plenty position postcard prompt ratio request row scenery sentence set setting
    shape side sign size slice slogan somebody someone something sort space spot stack story sunlight sunshine
    symmetry text theme thing time title today tone touch type variety version vibe wallpaper way website
    whatever whoever word writing zoom
    """
)
FUNCTION = word_set(
    """
    about across after again against ah all along alongside already although always am amid among amongst
    anywhere apart aren't around aside away because before beneath beside besides beyond but can't cannot
    despite doesn't don't down during either enough even ever every everywhere except far few hello hey hi hmm
    however i'd i'm if in inside instead isn't it's just least less let's lets maybe me more mostly much myself
    near nearby neither never none nor not now of often ok okay once only onto opposite or ought outside over
    own past per perhaps please pls plus plz quite rather really round same shall since so soon still such thank thanks
    that's there's though through throughout thus till together too toward towards twice underneath unless until
    up upon upside us versus via vs well whether with within without yes yet
    """
)
