// How long to wait before the next attempt.

import type { PushError } from './error.ts';

export interface Retry {
  /** Bounds of the wait in milliseconds: 500 and 20000. It doubles with each failure, and is random below that. */
  min?: number;
  max?: number;
  /** Gives up after so many failures in a row. */
  attempts?: number;
  /** `false` gives up at a 401, 403 or 404, instead of asking again about once a minute. */
  refused?: boolean;
}

const REFUSED_MSEC = 60_000;
/** A server that names a longer time gets this one. */
const RETRY_AFTER_MAX_SECS = 3600;

/**
 * Milliseconds until the next attempt; `undefined`: give up. `failures` counts those in a row, this one included, and is
 * 0 after a connection that ended well. `random` gives numbers in [0, 1).
 */
export function delay(error: PushError | undefined, failures: number, retry: Retry, random: () => number): number | undefined {
  if (failures >= (retry.attempts ?? Infinity)) return;
  if (error?.kind === 'refused') {
    const mayHeal = [401, 403, 404].includes(error.status!) && retry.refused !== false;
    return mayHeal ? REFUSED_MSEC * (0.75 + random() / 2) : undefined;
  }
  const floor = 1000 * Math.min(error?.retryAfter ?? 0, RETRY_AFTER_MAX_SECS);
  return floor + random() * Math.min(retry.max ?? 20_000, (retry.min ?? 500) * 2 ** failures);
}
