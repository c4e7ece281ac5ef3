/** The checkpoints of a run: their names in its folder, which of them is the newest, and which are removed. */
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** A checkpoint in the folder of a run. */
export interface RunCheckpoint {
  /** Place of the phase in the recipe, counted from 0. */
  readonly phase: number;
  /** Optimiser steps of that phase. */
  readonly step: number;
  readonly name: string;
  readonly path: string;
}

export const checkpointName = (phase: number, step: number): string => `checkpoint-${phase}-${step}.safetensors`;

/** The checkpoints in a folder, the newest last. */
export async function listCheckpoints(folder: string): Promise<RunCheckpoint[]> {
  const found: RunCheckpoint[] = [];
  for (const name of await readdir(folder)) {
    const match = /^checkpoint-(\d{1,9})-(\d{1,15})\.safetensors$/.exec(name);
    if (match) found.push({ phase: Number(match[1]), step: Number(match[2]), name, path: join(folder, name) });
  }
  return found.sort((a, b) => a.phase - b.phase || a.step - b.step);
}

/** Removes all but the newest `count` checkpoints of a folder. */
export async function keepNewest(folder: string, count: number): Promise<void> {
  const old = (await listCheckpoints(folder)).slice(0, -count);
  for (const { path } of old) await rm(path, { force: true });
}
