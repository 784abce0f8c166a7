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
  /** The place behind this message, for `options.cursor` of a later subscriber. */
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

// Any JSON value can be where a text should be.
const word = (value: unknown): string => String(value ?? '');

function message(from: Fields): Message {
  const { time, base64, text } = from;
  const bytes = typeof base64 === 'string' && Uint8Array.from(atob(base64), c => c.charCodeAt(0));
  return {
    channel: word(from.channel),
    id: Number(from.id),
    text: bytes ? new TextDecoder().decode(bytes) : typeof text === 'string' ? text : JSON.stringify(text) ?? '',
    eventId: word(from.event_id ?? from.eventid),
    eventType: word(from.event_type),
    time: new Date(typeof time === 'number' ? time * 1000 : word(time)),
    tag: Number(from.tag) || 0,
    cursor: word(from.cursor),
    json() {
      return JSON.parse(this.text);
    },
    bytes() {
      return bytes || new TextEncoder().encode(this.text);
    },
  };
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
    const from = object && 'reason' in object ? { id: GAP, text: object } : object;
    let one: Message | undefined;
    try {
      one = from && message(from);
    } catch {
      // base64 that is none
    }
    const before = found[found.length - 1];
    if (!one?.id || one.id % 1) found.push(undefined);
    else if (one.id > 0 && before?.id === one.id && before.channel === one.channel) before.text += '\n' + one.text;
    else found.push(one);
  }
  return found;
}
