/**
 * Things that scenes are composed of: their names, the emoji labels and icon names that show just this, and the kind they belong to.
 * A label that could be another thing in another set, such as "mouse" of a computer, is taken from emoji alone.
 */

/** Kinds by the names that questions use. */
export const kinds = {
  animal: { plural: 'animals' },
  plant: { plural: 'plants' },
  fruit: { plural: 'fruits' },
  vegetable: { plural: 'vegetables' },
  meal: { plural: 'meals' },
  sweet: { plural: 'sweets' },
  drink: { plural: 'drinks' },
  vehicle: { plural: 'vehicles' },
  building: { plural: 'buildings' },
  clothing: { plural: 'pieces of clothing' },
  tool: { plural: 'tools' },
  instrument: { plural: 'instruments' },
};

/** For each kind its things: `noun`, or `noun=label,label` where the labels differ from it. */
const lists = {
  animal: `monkey=monkey,monkey face; gorilla; dog=dog,dog face; poodle; wolf; fox; raccoon; cat=cat,cat face,black cat; lion; tiger=tiger,tiger face; leopard;
    horse=horse,horse face; moose; donkey; unicorn; zebra; deer; bison; cow=cow,cow face; pig=pig,pig face; boar; ram; sheep=ewe; goat; camel=camel,two-hump camel;
    llama; giraffe; elephant; mammoth; rhinoceros; hippopotamus; rat; hamster; rabbit=rabbit,rabbit face; chipmunk; beaver; hedgehog; bat; bear;
    polar bear; koala; panda; sloth; otter; skunk; kangaroo; badger; turkey; chicken; rooster; chick=baby chick,front-facing baby chick; penguin; dove; eagle;
    duck; swan; owl; dodo; flamingo; peacock; parrot; goose; frog; crocodile; turtle; lizard; snake; dragon=dragon,dragon face; dinosaur=sauropod,T-Rex;
    whale=whale,spouting whale; dolphin; seal; fish; tropical fish; blowfish; shark; octopus; jellyfish; crab; lobster; squid; snail; butterfly; ant;
    bee=honeybee; beetle; ladybug=lady beetle; cricket; cockroach; spider; scorpion; mosquito; fly; worm`,
  plant: `cherry blossom; white flower; lotus; rose; hibiscus; sunflower; blossom; tulip; hyacinth; seedling; potted plant; evergreen tree; tree=deciduous tree;
    palm tree; cactus; herb; shamrock; clover=four leaf clover; maple leaf`,
  fruit: `grapes; melon; watermelon; tangerine; lemon; lime; banana; pineapple; mango; apple=red apple,green apple; pear; peach; cherries; strawberry; blueberries; kiwi=kiwi fruit;
    coconut`,
  vegetable: `tomato; eggplant; potato; carrot; corn=ear of corn; pepper=hot pepper,bell pepper; cucumber; leafy green; broccoli; garlic; onion; peas=pea pod`,
  meal: `sandwich; hamburger; pizza; hot dog; taco; burrito; tamale; falafel; salad=green salad; spaghetti; sushi; rice ball; curry rice; dumpling; french fries; fondue; bacon`,
  sweet: `ice cream=ice cream,soft ice cream; shaved ice; doughnut; cookie; birthday cake; shortcake; cupcake; pie; chocolate bar; candy; lollipop; custard; waffle; pancakes`,
  drink: `milk=glass of milk; coffee=hot beverage; sake; wine=wine glass; cocktail=cocktail glass; tropical drink; beer=beer mug; whisky=tumbler glass; bubble tea; juice box=beverage box`,
  vehicle: `locomotive; train; tram; monorail; bus=bus,oncoming bus; trolleybus; minibus; ambulance; fire engine; police car=police car,oncoming police car; taxi=taxi,oncoming taxi;
    car=automobile,oncoming automobile; pickup truck; truck=delivery truck; lorry=articulated lorry; tractor; racing car; motorcycle; scooter=motor scooter; bicycle; kick scooter; sailboat; canoe; speedboat; ferry; ship;
    airplane=airplane,small airplane; helicopter; rocket; flying saucer`,
  building: `temple=classical building; hut; house=house,house with garden; office building; post office; hospital; bank; hotel; school; factory; castle; church; mosque; synagogue; stadium`,
  clothing: `lab coat; necktie; t shirt=t-shirt; jeans; scarf; gloves; coat; socks; dress; kimono; sari; swimsuit=one-piece swimsuit; shorts; bikini; shoe=man’s shoe,flat shoe; running shoe; boot=hiking boot,woman’s boot; high heel=high-heeled shoe; sandal=woman’s sandal;
    hat=woman’s hat; top hat; cap=billed cap`,
  tool: `hammer; axe; pick; saw=carpentry saw; wrench; screwdriver; shovel; ladder; scissors; broom; bucket; magnet; flashlight; paintbrush`,
  instrument: `saxophone; trumpet; trombone; accordion; guitar; violin; banjo; drum; maracas; flute; harp`,
};

/** Names that mean something else in sets of icons; those things come from emoji alone. */
const emojiOnly = new Set(
  'bat fly cricket pick bank seal worm turkey chick beetle shorts coat pepper cap drum magnet bucket tree truck train pie mango lime'.split(
    ' ',
  ),
);

/** A name as labels are compared: lower case, with spaces alone. */
export const plainName = (name) =>
  name
    .toLowerCase()
    .replaceAll('’', "'")
    .replace(/[^a-z0-9']+/g, ' ')
    .trim();

/** Things by the plain names that show them. */
export const things = new Map();
for (const [kind, list] of Object.entries(lists)) {
  for (const entry of list.split(';').map((each) => each.replace(/\s+/g, ' ').trim())) {
    const [noun, labels = noun] = entry.split('=');
    const thing = { noun, kind, emojiOnly: emojiOnly.has(noun) };
    for (const label of labels.split(',')) things.set(plainName(label), thing);
    if (!things.has(plainName(noun))) things.set(plainName(noun), thing);
  }
}

/** The thing of a name, or undefined. @param isEmoji whether the name is that of an emoji */
export function thingOf(name, isEmoji) {
  const thing = things.get(plainName(name));
  return thing !== undefined && (isEmoji || !thing.emojiOnly) ? thing : undefined;
}

const uncountable =
  /^(grapes|cherries|blueberries|peas|french fries|pancakes|jeans|gloves|socks|shorts|scissors|maracas|corn|milk|coffee|sake|wine|beer|whisky|garlic|broccoli|curry rice|ice cream|shaved ice|bubble tea|sushi|spaghetti|bacon|falafel|salad|custard)$/;

/** A noun with its article: "an apple", "grapes". */
export function withArticle(noun) {
  if (uncountable.test(noun)) return noun;
  return `${/^[aeio]|^u(?!nicorn)|^hour/.test(noun) ? 'an' : 'a'} ${noun}`;
}

/** Things of which one could be called by the name of another: a scene has one of them at most, and says nothing of the others. */
const alike = `dog,poodle; fish,tropical fish,blowfish,shark; tree,palm tree,evergreen tree,potted plant; car,taxi,police car,racing car; truck,pickup truck,lorry,fire engine;
  bus,minibus,trolleybus; train,locomotive,tram,monorail; ship,ferry,sailboat,speedboat,canoe; shoe,running shoe,high heel,boot,sandal; hat,top hat,cap;
  bear,polar bear,panda,koala; sheep,ram,goat; cow,bison; house,hut; motorcycle,scooter,kick scooter; clover,shamrock,herb,seedling;
  white flower,blossom,cherry blossom,rose,lotus,tulip,hibiscus,hyacinth,sunflower; rat,hamster,chipmunk; coat,lab coat; swimsuit,bikini; dress,kimono,sari;
  beetle,ladybug,cockroach,cricket,ant; chicken,rooster,chick,turkey; duck,goose,swan; crocodile,lizard; ice cream,shaved ice; cupcake,birthday cake,shortcake,pie;
  monkey,gorilla; pig,boar; deer,moose; elephant,mammoth; lion,tiger,leopard,cat; horse,donkey,unicorn,zebra; wolf,fox,dog,poodle; sushi,rice ball; taco,burrito,sandwich;
  wine,cocktail,tropical drink; airplane,rocket; melon,watermelon; lemon,lime; pepper,tomato; mosquito,fly,bee; octopus,squid,jellyfish; crab,lobster,scorpion;
  whale,dolphin,seal; guitar,banjo,violin; trumpet,trombone,saxophone; axe,pick; candy,lollipop; church,castle,temple,mosque,synagogue; dragon,dinosaur;
  office building,hotel,hospital,bank,school,post office,factory; snake,worm; camel,llama; fondue,curry rice; lemon,tangerine; shorts,jeans; leafy green,salad,broccoli;
  maple leaf,clover; raccoon,badger,skunk; dove,eagle,parrot; t shirt,coat`;
const groups = alike.split(';').map((group) => group.split(',').map((noun) => noun.trim()));

/** Whether two names could be said of one thing. */
export const areAlike = (noun, other) =>
  noun === other || groups.some((group) => group.includes(noun) && group.includes(other));

/** All names in {@link areAlike}, for a check. */
export const alikeNouns = groups.flat();
