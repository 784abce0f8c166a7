// What can go wrong, as one class with a kind.

export type ErrorKind = 'refused' | 'network' | 'silence' | 'format' | 'overflow';

/**
 * `refused`: the server said no, with `status` and `explain`. `network`: no connection, or the server is in trouble.
 * `silence`: nothing came for too long. `format`: what came is no message. `overflow`: a message without an end.
 */
export class PushError extends Error {
  kind: ErrorKind;
  /** Status of the HTTP answer, if there was one. */
  status: number | undefined;
  /** The server's reason, from `X-Nginx-PushStream-Explain` or a close frame. */
  explain: string | undefined;
  /** @internal Seconds that the server wants us to wait. */
  retryAfter: number | undefined;

  constructor(kind: ErrorKind, status?: number, explain?: string, retryAfter?: number) {
    super([kind, status, explain].filter(Boolean).join(' '));
    this.kind = kind;
    this.status = status;
    this.explain = explain;
    this.retryAfter = retryAfter;
  }
}

/** The error for an answer that is not 200. */
export function refusal(status: number, explain?: string | null, retryAfter?: string | null): PushError {
  const passing = status === 429 || status >= 500;
  return new PushError(passing ? 'network' : 'refused', status, explain || undefined, Number(retryAfter) || undefined);
}
