// From bytes to pieces: lines, server-sent events, and JSON objects that follow each other.

import { PushError } from './error.ts';

/** Longest line, in UTF-16 units. Behind it the connection is given up: a message of that size is a mistake. */
export const LINE_MAX: number = 1 << 24;

/** Cuts a stream of text into lines, which end with LF, CR or CRLF. */
export function lineReader(take: (line: string) => void): (chunk: string) => void {
  let rest = '';
  let afterCr = false;
  return chunk => {
    if (!chunk) return;
    const lines = (afterCr && chunk[0] === '\n' ? chunk.slice(1) : chunk).split(/\r\n|\n|\r/);
    afterCr = chunk.endsWith('\r');
    lines[0] = rest + lines[0];
    rest = lines.pop()!;
    if (rest.length > LINE_MAX) throw new PushError('overflow');
    lines.forEach(take);
  };
}

export interface EventSink {
  event(data: string): void;
  /** An id that no data follows: the place at which the stream begins. */
  place(id: string): void;
  comment(text: string): void;
}

/** Reads the lines of an event stream (WHATWG HTML, "Server-sent events"). */
export function eventReader(sink: EventSink): (line: string) => void {
  let data: string[] = [];
  let id: string | undefined;
  let size = 0;
  return line => {
    if (!line) {
      if (data.length) sink.event(data.join('\n'));
      else if (id !== undefined) sink.place(id);
      data = [];
      id = undefined;
      size = 0;
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (colon === 0) sink.comment(value);
    else if (field === 'data') {
      data.push(value);
      size += value.length;
      if (size > LINE_MAX) throw new PushError('overflow');
    } else if (field === 'id') id = value;
  };
}

/**
 * Cuts JSON objects apart that follow each other with nothing or white space between them, as in the answer to a poll.
 * A brace in a string does not count. What is behind the last object is a piece of its own, unless it is white space.
 */
export function split(text: string): string[] {
  const pieces: string[] = [];
  let depth = 0;
  let start = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (quoted) {
      if (c === '\\') at++;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === '{') depth++;
    else if (c === '}' && depth && !--depth) {
      pieces.push(text.slice(start, at + 1));
      start = at + 1;
    }
  }
  const rest = text.slice(start);
  return rest.trim() ? [...pieces, rest] : pieces;
}
