/**
 * `mome eval vqa` and `mome eval nlvr2`: how many questions a model answers as people do, and how many statements it judges right.
 */
import pLimit from 'p-limit';
import type { Vlmo } from '../inference/index.ts';
import { takeList } from '../runtime/arguments.ts';
import { check, requireNotAborted } from '../runtime/errors.ts';
import type { Nlvr2Statement, VqaQuestion } from './data/vqa.ts';
import { checkEvaluation } from './evaluation-arguments.ts';
import { officialAccuracy, softScore } from './vqa-accuracy.ts';

/** Calls that wait for the model, so that pictures are decoded while it computes. */
const callsAtOnce = 4;

interface TaskOptions {
  readonly model: Vlmo;
  readonly signal?: AbortSignal;
  readonly onProgress?: (done: number, total: number) => void;
}

export interface VqaEvaluation extends TaskOptions {
  readonly questions: readonly VqaQuestion[];
  /** Called for each question in order, when all are answered. */
  readonly onAnswer?: (answered: AnsweredQuestion) => void;
}

/** How one question went. */
export interface AnsweredQuestion {
  readonly id: number;
  readonly question: string;
  readonly answer: string;
  /** Of the answer, as the model gives it. */
  readonly score: number;
  /** Official accuracy; null where nobody's answers are known. */
  readonly accuracy: number | null;
}

/** Output of `mome eval vqa --json`. */
export interface VqaReport {
  readonly questions: number;
  /** Questions with people's answers: the numbers below are means over them, or null without any. */
  readonly judged: number;
  /** Official accuracy, spellings brought together. */
  readonly accuracy: number | null;
  /** By the type of the answer. */
  readonly accuracies: Readonly<Record<string, number>>;
  /** As the original measures: soft targets by how many people gave just this answer. */
  readonly softScore: number | null;
}

/**
 * Answers questions with the best answer of the model's list.
 *
 * @throws MomeError as `Vlmo.answer`; `MOME_INVALID_ARGUMENT` without questions
 */
export async function evaluateVqa(options: VqaEvaluation): Promise<VqaReport> {
  checkEvaluation('evaluateVqa', options, 'answer');
  const questions = takeList('evaluateVqa', options.questions, 'questions', 'question') as VqaQuestion[];
  const { model, onAnswer } = options;
  check(questions.length > 0, 'MOME_INVALID_ARGUMENT', 'evaluateVqa: expected at least one question, got none');
  const best = await eachInOrder(options, questions, async ({ picture, question }, call) => {
    const [first] = await model.answer(picture, question, { ...call, k: 1 });
    return first!;
  });
  const accuracies: number[] = [];
  const softScores: number[] = [];
  const byType = new Map<string, number[]>();
  for (const [index, { id, question, answers, answerType }] of questions.entries()) {
    const { answer, score } = best[index]!;
    const accuracy = answers === undefined ? null : officialAccuracy(answer, answers);
    onAnswer?.({ id, question, answer, score, accuracy });
    if (answers === undefined || accuracy === null) continue;
    accuracies.push(accuracy);
    softScores.push(softScore(answers.filter((each) => each === answer).length));
    if (answerType === undefined) continue;
    const ofType = byType.get(answerType) ?? [];
    ofType.push(accuracy);
    byType.set(answerType, ofType);
  }
  return {
    questions: questions.length,
    judged: accuracies.length,
    accuracy: meanOf(accuracies),
    accuracies: Object.fromEntries([...byType].map(([type, values]) => [type, meanOf(values)!])),
    softScore: meanOf(softScores),
  };
}

export interface Nlvr2Evaluation extends TaskOptions {
  readonly statements: readonly Nlvr2Statement[];
  /** Called for each statement in order, when all are judged. */
  readonly onJudgement?: (judged: JudgedStatement) => void;
}

/** How one statement went. */
export interface JudgedStatement {
  readonly id: string;
  readonly statement: string;
  /** Probability that it is true. */
  readonly probability: number;
  /** Whether the judgement is right; null where the file does not say what is. */
  readonly isRight: boolean | null;
}

/** Output of `mome eval nlvr2 --json`. */
export interface Nlvr2Report {
  readonly statements: number;
  /** Statements of which it is known whether they are true: the numbers below are shares of them, or null without any. */
  readonly judged: number;
  readonly accuracy: number | null;
  /** Share of sentences all of whose statements are judged right: a sentence stands beside several pairs of pictures. */
  readonly consistency: number | null;
}

/**
 * Judges statements: one is called true above a probability of a half.
 *
 * @throws MomeError as `Vlmo.reason`; `MOME_INVALID_ARGUMENT` without statements
 */
export async function evaluateNlvr2(options: Nlvr2Evaluation): Promise<Nlvr2Report> {
  checkEvaluation('evaluateNlvr2', options, 'reason');
  const statements = takeList('evaluateNlvr2', options.statements, 'statements', 'statement') as Nlvr2Statement[];
  const { model, onJudgement } = options;
  check(statements.length > 0, 'MOME_INVALID_ARGUMENT', 'evaluateNlvr2: expected at least one statement, got none');
  const judgements = await eachInOrder(options, statements, ({ pictures, statement }, call) =>
    model.reason(pictures, statement, call),
  );
  const rights: boolean[] = [];
  const bySentence = new Map<string, boolean>();
  for (const [index, { id, statement, isTrue }] of statements.entries()) {
    const { probability } = judgements[index]!;
    const isRight = isTrue === undefined ? null : probability > 0.5 === isTrue;
    onJudgement?.({ id, statement, probability, isRight });
    if (isRight === null) continue;
    rights.push(isRight);
    bySentence.set(statement, isRight && (bySentence.get(statement) ?? true));
  }
  return {
    statements: statements.length,
    judged: rights.length,
    accuracy: meanOf(rights.map(Number)),
    consistency: meanOf([...bySentence.values()].map(Number)),
  };
}

/** Does `work` for each item, a few at a time; the results in the order of the items. The first failure stops the others. */
async function eachInOrder<T, R>(
  { signal, onProgress }: TaskOptions,
  items: readonly T[],
  work: (item: T, call: { readonly signal: AbortSignal }) => Promise<R>,
): Promise<R[]> {
  requireNotAborted(signal, 'evaluation');
  const failed = new AbortController();
  const call = { signal: signal ? AbortSignal.any([signal, failed.signal]) : failed.signal };
  const limit = pLimit(callsAtOnce);
  let done = 0;
  const all = items.map((item) =>
    limit(async () => {
      requireNotAborted(call.signal, 'evaluation');
      const result = await work(item, call);
      onProgress?.(++done, items.length);
      return result;
    }),
  );
  try {
    return await Promise.all(all);
  } catch (error) {
    failed.abort(error);
    await Promise.allSettled(all);
    throw error;
  }
}

function meanOf(values: readonly number[]): number | null {
  return values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;
}
