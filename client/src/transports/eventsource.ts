// The browser's own EventSource. It shows neither pings nor statuses, and no messages with an event type but `gap`.
// By itself it would connect again with the same address, where the place in the arguments is an old one. So it is
// closed at its first error, unless the page wants it otherwise.

import { PushError } from '../error.ts';
import type { Connect } from './line.ts';

const connectEventSource = async (line: Parameters<Connect>[0], keepsTrying: boolean): Promise<void> => {
  const { url, credentials } = await line.request();
  if (line.signal.aborted) return;
  const source = new EventSource(url, { withCredentials: credentials === 'include' });
  return new Promise((resolve, reject) => {
    const take = ({ data }: MessageEvent<string>) => {
      line.heard(false);
      line.take(data);
    };
    let wasOpen = false;
    line.signal.addEventListener('abort', () => source.close());
    source.onopen = () => {
      wasOpen = true;
      line.open();
    };
    source.onmessage = take;
    source.addEventListener('gap', take);
    source.onerror = () => {
      if (keepsTrying && wasOpen && source.readyState !== 2) return;
      source.close();
      if (wasOpen) resolve();
      else reject(new PushError('network'));
    };
  });
};

export const eventsource: Connect = line => connectEventSource(line, false);
/** Leaves connecting again to the browser. */
export const nativeEventsource: Connect = line => connectEventSource(line, true);
