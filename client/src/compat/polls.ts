// Long polling as the old client does it: by fetch, and by script elements for other origins (JSONP).
//
// The next question comes 100 ms after an answer. A question without an answer ends after the time out and two seconds
// more, as if nothing had been published.

import { PushError } from '../error.ts';
import type { Fields } from '../message.ts';
import { ask } from '../transports/ask.ts';
import type { Line } from '../transports/line.ts';

const PAUSE_MSEC = 100;
const GRACE_MSEC = 2000;

const pause = (line: Line) => new Promise<void>(resolve => {
  const timer = setTimeout(resolve, PAUSE_MSEC);
  line.signal.addEventListener('abort', () => clearTimeout(timer));
});

export async function pausingPoll(line: Line, timeout: number): Promise<void> {
  for (;;) {
    await pause(line);
    const control = new AbortController();
    const cut = () => control.abort();
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      cut();
    }, timeout + GRACE_MSEC);
    line.signal.addEventListener('abort', cut);
    try {
      const request = await line.request();
      const response = await ask({ ...line, request: () => ({ ...request, signal: control.signal }) });
      if (response.status === 200) line.take(await response.text());
      line.polled(response);
    } catch (error) {
      if (!isLate) throw error;
    } finally {
      clearTimeout(timer);
      line.signal.removeEventListener('abort', cut);
    }
  }
}

/** `script.src` takes no plain text where Trusted Types are required. */
let policy: { createScriptURL(url: string): string } | undefined;
const scriptUrl = (url: string): string => {
  const { trustedTypes } = globalThis as { trustedTypes?: { createPolicy(name: string, rules: object): typeof policy } };
  policy ??= trustedTypes?.createPolicy('push-stream', { createScriptURL: (url: string) => url });
  return policy ? policy.createScriptURL(url) : url;
};

/** `url` makes the address for a callback's name; `name` is the script element's id and begins that name. */
export async function jsonp(line: Line, timeout: number, name: string, url: (callback: string) => string, take: (batch: Fields[]) => void): Promise<void> {
  for (;;) {
    await pause(line);
    const began = Date.now();
    const callback = `${name}_onmessage_${began}`;
    const script = document.createElement('script');
    const globals = globalThis as unknown as Record<string, unknown>;
    try {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(resolve, timeout + GRACE_MSEC);
        line.signal.addEventListener('abort', () => {
          clearTimeout(timer);
          resolve();
        });
        globals[callback] = (batch: Fields[]) => {
          clearTimeout(timer);
          resolve();
          take(batch);
        };
        // A script element does not show the status. 304 comes late, a refusal at once.
        script.onerror = () => {
          clearTimeout(timer);
          if (Date.now() - began > timeout / 2) resolve();
          else reject(new PushError('refused', 403));
        };
        script.id = name;
        script.async = true;
        script.src = scriptUrl(url(callback));
        document.head.appendChild(script);
      });
    } finally {
      script.remove();
      delete globals[callback];
    }
    if (line.signal.aborted) return;
  }
}
