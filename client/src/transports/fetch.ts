// A response that never ends, read with fetch: an event stream, or JSON objects in lines.

import { PushError } from '../error.ts';
import { eventReader, lineReader } from '../frames.ts';
import { ask } from './ask.ts';
import type { Connect } from './line.ts';

export const fetchStream: Connect = async line => {
  const response = await ask(line);
  const type = response.headers.get('Content-Type') ?? '';
  // text/html is the page of somebody on the way: a login, a portal, an error.
  if (!response.body || /^text\/html/i.test(type)) throw new PushError('refused', response.status, type);
  line.open(response);
  const read = lineReader(
    /^text\/event-stream/i.test(type)
      ? eventReader({
          event: line.take,
          place: line.place,
          comment: text => text === '-1' && line.heard(true),
        })
      : text => text.trim() && line.take(text),
  );
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  for (;;) {
    const { done, value } = await reader.read();
    if (done || line.signal.aborted) return;
    read(decoder.decode(value, { stream: true }));
    line.heard(false);
    // The server has to wait while nobody takes the messages here.
    await line.room();
  }
};
