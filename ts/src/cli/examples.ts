/** Examples below the help of every command. */
import type { Command } from 'commander';

/** A line to type, and what it does. */
type Example = readonly [line: string, does: string];

/** Examples by the names of commands, those of `eval` behind its name. */
export const examples: Readonly<Record<string, readonly Example[]>> = {
  mome: [
    ['mome search photos a red car', 'finds pictures of a folder by words'],
    ['mome search photos a red car --open', 'shows them in the browser'],
    ['mome help embed', 'explains a command, with examples'],
  ],
  index: [
    ['mome index photos', 'embeds what is new in a folder, so that the next search is quick'],
    ['mome index photos --int8', 'keeps an index that searches leave on disk, for millions of pictures'],
    ['mome index photos --index photos.safetensors', 'keeps it elsewhere, for "mome serve --index"'],
  ],
  search: [
    ['mome search photos a happy cat', 'the ten best pictures of a folder'],
    ['mome search photos "a happy cat" -k 50 --html cats.html --open', 'a page with fifty of them, in the browser'],
    ['mome search photos --image photos/cat.jpg', 'pictures like this one'],
    ["printf 'a cat\\na dog\\n' | mome search photos - --json", 'several queries, a line of JSON for each'],
  ],
  embed: [
    ['mome embed -t "a cat" "a dog" --format csv', 'texts, with a column for each number'],
    ["find photos -name '*.jpg' -print0 | mome embed --images-from - -o photos.parquet", 'pictures that find lists'],
    ["mome embed --input 'data/{000..099}.tar' -o out --shard 0/8", 'a part of a large collection, resumable'],
  ],
  match: [
    ['mome match photo.jpg "a cat" "a dog"', 'which text fits a picture better'],
    ['mome match photo.jpg - < labels.txt', 'texts from a file, one a line'],
  ],
  answer: [
    ['mome answer photo.jpg what colour is the car', 'answers to a question, best first'],
    ['mome answer photo.jpg "how many dogs are there?" -k 1 --json', 'the best answer for a script'],
  ],
  reason: [
    ['mome reason left.jpg right.jpg both pictures show a dog', 'whether a statement is true'],
    ['mome reason left.jpg right.jpg "there are two cats" --json', 'its probability for a script'],
  ],
  'fill-mask': [
    ['mome fill-mask "a [MASK] in the snow" -i photo.jpg', 'words that a picture suggests'],
    ['mome fill-mask "a [MASK] in the snow" -k 3', 'words by the text alone'],
  ],
  inspect: [
    ['mome inspect vlmo_base_patch16_224.pt', 'what is in a file, and which calls it serves'],
    ['mome inspect model --tensors', 'every tensor with its shape'],
  ],
  convert: [
    ['mome convert vlmo_base_patch16_224.pt vlmo-base', 'a folder that opens faster'],
    ['mome convert vlmo_base_patch16_224.pt small --dtype int8', 'a quarter of the size'],
    ['mome convert vlmo_base_patch16_224.pt large --image-size 384', 'for larger pictures'],
  ],
  verify: [
    ['mome verify case', 'compares with a recorded case on this machine'],
    ['mome verify case --target ref --json', 'with the plain kernels, for a script'],
  ],
  pull: [
    ['mome pull vlmo-base-coco', 'downloads an official model'],
    ['mome search photos "a dog in the snow" -m vlmo-base-coco', 'and searches with it'],
  ],
  models: [
    ['mome models', 'which models are here, and which can be had'],
    ['mome models remove vlmo-base-coco', 'removes one'],
  ],
  'models remove': [
    ['mome models remove vlmo-base-coco', 'frees its place on the disk'],
    ['mome models remove vlmo-base-coco --json', 'and says in JSON how much that was'],
  ],
  export: [
    ['mome export -o onnx', 'the model that comes with mome, as ONNX files'],
    ['mome export -m vlmo-base -o onnx --only image text', 'the dual encoder of another'],
  ],
  train: [
    ['mome train recipe.json -o run', 'trains as a file says'],
    ['mome train --recipe retrieval --init vlmo-base --data pairs.jsonl -o tuned', "fine-tunes on one's own pairs"],
    ['mome train recipe.json -o run --resume', 'goes on where it was stopped'],
  ],
  eval: [
    ['mome eval retrieval --data pairs.jsonl', 'recall on pictures with captions'],
    ['mome eval zero-shot --data photos', 'names of classes, by the nearest text'],
  ],
  'eval retrieval': [
    ['mome eval retrieval --data pairs.jsonl', 'before and after re-ranking'],
    ['mome eval retrieval --data dataset_flickr30k.json --images flickr30k', 'the official split'],
    ['mome eval retrieval -k 0', 'the dual encoder alone, on held-out drawings'],
  ],
  'eval calibration': [
    ['mome eval calibration -m model', 'fits probabilities and writes them into config.json'],
    ['mome eval calibration --no-write', 'only prints them'],
  ],
  'eval queries': [
    ['mome eval queries --data queries.json --images photos', 'searches with several right results'],
    ['mome eval queries --data queries.json --images photos -k 32', 'with re-ranking'],
  ],
  'eval vqa': [
    ['mome eval vqa --questions questions.json --images val2014 --annotations annotations.json', 'accuracy'],
    [
      'mome eval vqa --questions questions.json --images test2015 --submission answers.json',
      'for the evaluation server',
    ],
  ],
  'eval nlvr2': [
    ['mome eval nlvr2 --data test1.json --images test1', 'accuracy on pairs of pictures'],
    ['mome eval nlvr2 --data test1.json --images test1 --queries statements.jsonl', 'and how each statement went'],
  ],
  'eval zero-shot': [
    ['mome eval zero-shot --data photos', 'a folder with a folder of pictures for each class'],
    ['mome eval zero-shot --data photos --json', 'for a script'],
  ],
  serve: [
    ['mome serve', 'on port 8080 of this machine, with a page at /'],
    ['mome serve --index photos.safetensors --port 9000', 'with a search of pictures'],
    ['mome serve --host 0.0.0.0 --api-key-file keys.txt', 'for others, with keys'],
  ],
  bench: [
    ['mome bench', 'the speed of the model that comes with mome'],
    ['mome bench -m vlmo-base --row "8 pictures" --seconds 10', 'of one kind of call'],
  ],
  doctor: [
    ['mome doctor', 'whether everything works on this machine'],
    ['mome doctor --json', 'for a report of a problem'],
  ],
  completion: [
    ['source <(mome completion bash)', 'in ~/.bashrc; likewise with zsh in ~/.zshrc'],
    ['mome completion fish > ~/.config/fish/completions/mome.fish', 'once, for fish'],
  ],
};

/** Adds examples to the help of `program` and of all its commands. Called when all commands have been added. */
export function addExamples(program: Command): void {
  for (const [path, command] of commandsOf(program)) {
    const own = examples[path];
    if (own) command.addHelpText('after', `\nExamples:\n${own.map(textOf).join('\n')}`);
  }
}

const textOf = ([line, does]: Example): string => `  ${line}\n      ${does}`;

/** All commands by their names as one types them behind `mome`, which stands for the program itself. */
export function commandsOf(program: Command): Map<string, Command> {
  const found = new Map<string, Command>([[program.name(), program]]);
  const add = (command: Command, path: readonly string[]) => {
    for (const each of command.commands) {
      const names = [...path, each.name()];
      found.set(names.join(' '), each);
      add(each, names);
    }
  };
  add(program, []);
  return found;
}
