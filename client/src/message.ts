// A message as the page sees it, and how it is read from what the server sends.
//
// Two forms are understood: that of `push_stream_message_format json`, and the template of old pages,
// {"id":~id~,"channel":"~channel~","text":"~text~","tag":"~tag~","time":"~time~","eventid":"~event-id~"}.

import { split } from './frames.ts';

export interface Message {
  channel: string;
  /** 1 for the first message of the channel, then one more for each. */
  id: number;
  /** As it was published. If the template has no quotes around the text, the JSON that it had. */
  text: string;
  /** Those that the publisher gave, or empty. */
  eventId: string;
  eventType: string;
  /** The second in which the message was published. */
  time: Date;
  /** Orders the messages of one second. */
  tag: number;
  /** The place behind this message, if the server tells it. */
  cursor: string;
  /** The text, read as JSON. */
  json<T = unknown>(): T;
  /** The bytes that were published, also if they are no text. */
  bytes(): Uint8Array;
}

/** Ids of what the server sends and is no message. */
export const PING = -1, DELETED = -2, TIMEOUT = -3, GAP = -4;

/** The members of a JSON object, of any type. */
export type Fields = Record<string, unknown>;

class Received implements Message {
  channel: string;
  id: number;
  text: string;
  eventId: string;
  eventType: string;
  time: Date;
  tag: number;
  cursor: string;
  private _bytes: Uint8Array | undefined;

  constructor(from: Fields) {
    // Any JSON value can be here.
    const word = (value: unknown) => (value === undefined || value === null ? '' : String(value));
    this.channel = word(from.channel);
    this.id = Number(from.id);
    this.eventId = word(from.event_id ?? from.eventid);
    this.eventType = word(from.event_type);
    this.time = typeof from.time === 'number' ? new Date(from.time * 1000) : new Date(word(from.time));
    this.tag = Number(from.tag) || 0;
    this.cursor = word(from.cursor);
    if (typeof from.base64 === 'string') {
      this._bytes = Uint8Array.from(atob(from.base64), c => c.charCodeAt(0));
      this.text = new TextDecoder().decode(this._bytes);
    } else this.text = typeof from.text === 'string' ? from.text : JSON.stringify(from.text) ?? '';
  }

  json<T>(): T {
    return JSON.parse(this.text);
  }

  bytes(): Uint8Array {
    return this._bytes ?? new TextEncoder().encode(this.text);
  }
}

/** Reads one JSON object; `undefined` if it is none. */
export function fields(text: string): Fields | undefined {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === 'object') return value;
  } catch {}
  return;
}

/** The objects of a frame, an event, a line or an answer. What is no object is `undefined`. */
export function objects(text: string): (Fields | undefined)[] {
  const one = fields(text);
  return one ? [one] : split(text).map(fields);
}

/**
 * The messages in such a text. In an event stream a template is repeated for each line of a text; these lines are one
 * message again. What is no message is `undefined`.
 */
export function messages(text: string): (Message | undefined)[] {
  const found: (Message | undefined)[] = [];
  for (const object of objects(text)) {
    // An event of the type `gap` has data of its own in locations with a template.
    const from = object && !('id' in object) && 'reason' in object ? { id: GAP, text: object } : object;
    let message: Received | undefined;
    try {
      message = from && new Received(from);
    } catch {
      // base64 that is none
    }
    if (!message || !Number.isInteger(message.id) || message.id === 0) {
      found.push(undefined);
      continue;
    }
    const before = found[found.length - 1];
    if (before && message.id > 0 && before.id === message.id && before.channel === message.channel)
      before.text += '\n' + message.text;
    else found.push(message);
  }
  return found;
}
