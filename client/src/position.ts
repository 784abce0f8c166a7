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
  /** Nothing before this is ours; and where we begin as long as there is no message. */
  private _first: Place | undefined;
  private _last: Map<string, Place & { id: number }> = new Map();

  /** `cursor` is one of ours or the server's. */
  constructor(cursor?: string, since?: Date) {
    // Zero is no time on the wire, and nothing is older than the first second.
    if (since) this._first = { time: Math.max(+since, 1000), tag: 0 };
    if (cursor?.[0] !== '[') {
      this._word = cursor ?? '';
      return;
    }
    try {
      const [first, ...last] = JSON.parse(cursor);
      this._last = new Map(last);
      this._first = first;
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
    let newest: Place | undefined;
    for (const last of this._last.values()) if (!newest || isNewer(last, newest)) newest = last;
    let place = newest ?? this._first;
    // Templates may lack the time.
    if (!place?.time) return {};
    if (newest && channels > 1) {
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

  /** We had this message. That can be only where we ask for more than we lack. */
  had(message: Message, channels: number): boolean {
    const last = this._last.get(message.channel);
    const time = +message.time;
    return channels > 1 && !message.cursor && !!time && !!last && !isNewer({ time, tag: message.tag }, last);
  }

  /** Goes on to a message. Returns what is missing before it, by its id. */
  move(message: Message): Gap | undefined {
    const { channel, id, tag } = message;
    const last = this._last.get(channel);
    const place = { id, time: +message.time || 0, tag };
    this._last.set(channel, place);
    // Old messages of one channel may come after newer ones of another.
    if (!this._first || isNewer(this._first, place)) this._first = place;
    // The server looks for an event id in the same way.
    this._word = message.cursor || (place.time ? '' : message.eventId);
    if (!last?.id || id === last.id + 1) return;
    // A lower id: the channel was deleted meanwhile and made again.
    return id > last.id ? { channel, missed: id - last.id - 1 } : { channel };
  }

  /** The next message of this channel tells nothing about those before it: they are accounted for. */
  settle(channel: string): void {
    const last = this._last.get(channel);
    if (last) last.id = 0;
  }
}
