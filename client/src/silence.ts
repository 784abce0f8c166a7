// Notices a connection that is dead although nobody said so: no byte for much longer than the server's pings are apart.

const LIMIT_MIN_MSEC = 20_000;
/** The timers of a page that nobody sees run once a minute. */
const HIDDEN_MIN_MSEC = 75_000;

export class Silence {
  private _heardAt: number;
  private _longest = 0;
  private _limit: number | undefined;

  /** `limit`: milliseconds, if the page says it. Otherwise the first ping tells what is usual here. */
  constructor(now: number, limit?: number) {
    this._heardAt = now;
    this._limit = limit;
  }

  heard(now: number, isPing: boolean): void {
    if (isPing) this._longest = Math.max(this._longest, now - this._heardAt, 1);
    this._heardAt = now;
  }

  isOver(now: number, isHidden: boolean): boolean {
    const limit = this._limit ?? (this._longest ? Math.max(LIMIT_MIN_MSEC, 2.5 * this._longest) : Infinity);
    return now - this._heardAt > (isHidden ? Math.max(HIDDEN_MIN_MSEC, limit) : limit);
  }
}
