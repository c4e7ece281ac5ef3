/** Calls of one item with a head of its own: a question, a statement, a masked text. Each is a run by itself; a batcher shares runs. */
import type { Batch, BatchItems } from '../model/batch.ts';
import { takeText } from '../runtime/arguments.ts';
import { check } from '../runtime/errors.ts';
import { takeImages, takePicture } from './arguments.ts';
import { answersOf, maskPositions, masksOf, secondProbability } from './logits.ts';
import type { ImageInput } from './pictures.ts';
import type { AnswerCandidate, MaskCandidates, TopOptions } from './results.ts';
import type { Call, Runs } from './runs.ts';

type TopCall = Call & Pick<TopOptions, 'k'>;

/** @param words for the outputs of the answer head */
export async function answerQuestion(
  runs: Runs,
  { k = 5, ...call }: TopCall,
  image: ImageInput,
  question: string,
  words: readonly string[] | undefined,
): Promise<AnswerCandidate[]> {
  const taken = takePicture(call.where, image);
  const text = runs.encode(call, takeText(call.where, question, 'question'), { kind: 'question' });
  return runs.job(async () => {
    const pictures = await runs.pictures(call, [taken], () => ({ kind: 'picture' }));
    const items = [{ text, picture: 0 }];
    const { vqa_logits } = await runs.run(call, 'answer', { pairs: items }, pictures, {});
    return answersOf(vqa_logits!, words, k);
  });
}

export async function judgeStatement(
  runs: Runs,
  call: Call,
  images: readonly ImageInput[],
  statement: string,
): Promise<{ readonly probability: number }> {
  const taken = takeImages(call.where, images, 'two pictures');
  check(taken.length === 2, 'MOME_INVALID_ARGUMENT', `reason: expected 2 pictures, got ${taken.length}`);
  const text = runs.encode(call, takeText(call.where, statement, 'statement'), { kind: 'statement' });
  return runs.job(async () => {
    const pictures = await runs.pictures(call, taken, (index) => ({ kind: 'picture', index }));
    const pairs = pictures.items.map(({ picture }, i) => ({
      text,
      picture,
      type: i === 0 ? (1 as const) : (2 as const),
    }));
    const { nlvr2_logits } = await runs.run(call, 'reason', { pairs }, pictures, { dims: { statements: 1 } });
    return { probability: secondProbability(nlvr2_logits!, 0) };
  });
}

/** @param image a picture to look at, or null */
export async function fillMasks(
  runs: Runs,
  { k = 5, ...call }: TopCall,
  image: ImageInput | null,
  masked: string,
): Promise<MaskCandidates[]> {
  const taken = image === null ? [] : [takePicture(call.where, image)];
  const ids = runs.encode(call, takeText(call.where, masked, 'text'), { kind: 'text' });
  const tokenizer = runs.tokenizer;
  const positions = maskPositions(ids, tokenizer);
  if (positions.length === 0) return [];
  return runs.job(async () => {
    const pictures = await runs.pictures(call, taken, () => ({ kind: 'picture' }));
    const items: BatchItems = image === null ? { texts: [ids] } : { pairs: [{ text: ids, picture: 0 }] };
    const maskRows = (batch: Batch) => {
      const first = (image === null ? batch.textCls : batch.pairTextCls)[0]!;
      const mlm_rows = Int32Array.from(positions, (position) => first + position);
      return { dims: { tokens: positions.length }, inputs: { mlm_rows } };
    };
    const { mlm_logits } = await runs.run(call, 'fillMask', items, pictures, maskRows);
    return masksOf(mlm_logits!, positions, tokenizer, k);
  });
}
