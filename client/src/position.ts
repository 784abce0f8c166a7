// The place of a subscriber in its channels: where it goes on after a break, and what it has missed.
//
// The server's cursor is one word for all channels. Locations without it have (time, tag), which names one message of
// the whole server. But live messages of different channels may overtake each other, so with several channels we ask
// again from two seconds before the newest message, and drop what we had.

import type { Message } from './message.ts';

/** Time in milliseconds since 1970, in whole seconds. */
interface Place {
  time: number;
  tag: number;
}

export interface Gap {
  /** Empty if the server does not say in which of several channels. */
  channel: string;
  /** How many messages; undefined if nobody can know. */
  missed?: number;
  /** The server's reason: `evicted`, `expired`, `unstored`, `restarted`, `unknown` or `slow`. */
  reason?: string;
}

const OVERLAP_MSEC = 2000;

const isNewer = (a: Place, b: Place) => a.time > b.time || (a.time === b.time && a.tag > b.tag);

export class Position {
  private _word = '';
  /** Nothing before this is ours. */
  private _first: Place | undefined;
  private _last: Map<string, Place & { id: number }> = new Map();

  /** `cursor` is one of ours or the server's. */
  constructor(cursor?: string, since?: Date) {
    if (since) this._first = { time: +since, tag: 0 };
    if (cursor?.[0] !== '[') {
      this._word = cursor ?? '';
      return;
    }
    try {
      const [first, ...last] = JSON.parse(cursor);
      this._first = first;
      this._last = new Map(last);
    } catch {
      // Not ours, so it names no place.
    }
  }

  /** Opaque, for a later subscriber. Empty if there is no place yet. */
  get cursor(): string {
    return this._word || !this._first ? this._word : JSON.stringify([this._first, ...this._last]);
  }

  get isKnown(): boolean {
    return !!(this._word || this._first);
  }

  /** What to tell the server: a cursor, or a time and a tag, or nothing. */
  ask(channels: number): { eventid?: string; time?: string; tag?: string } {
    if (this._word) return { eventid: this._word };
    let place = this._first;
    for (const last of this._last.values()) if (!place || isNewer(last, place)) place = last;
    if (!place) return {};
    if (channels > 1) {
      const before = { time: place.time - OVERLAP_MSEC, tag: 0 };
      place = this._first && isNewer(this._first, before) ? this._first : before;
    }
    return { time: new Date(place.time).toUTCString(), tag: String(place.tag) };
  }

  /** The server has told the place of the whole subscriber. */
  told(word: string): void {
    this._word = word;
  }

  /** A place to begin with, for a subscriber that has seen no message yet. */
  begin(time: number, tag: number): void {
    if (!this.isKnown && time) this._first = { time, tag };
  }

  /** We had this message. A server with cursors sends no message twice. */
  had(message: Message): boolean {
    const last = this._last.get(message.channel);
    return !message.cursor && !!last && !isNewer({ time: +message.time, tag: message.tag }, last);
  }

  /** Goes on to a message. Returns what is missing before it, by its id. */
  move(message: Message): Gap | undefined {
    const { channel, id, tag } = message;
    const last = this._last.get(channel);
    const place = { id, time: +message.time || 0, tag };
    this._last.set(channel, place);
    this._first ??= place;
    this._word = message.cursor;
    if (!last || id === last.id + 1) return;
    // A lower id: the channel was deleted meanwhile and made again.
    return id > last.id ? { channel, missed: id - last.id - 1 } : { channel };
  }

  /** The next message of this channel tells nothing about those before it: they are accounted for. */
  forget(channel: string): void {
    this._last.delete(channel);
  }
}
