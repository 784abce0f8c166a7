// Streaming into a hidden frame. The document calls parent.PushStream.register(this), and then p(...) for each message.

import { PushError } from '../error.ts';
import type { Line } from '../transports/line.ts';
import { shareDomain } from './domain.ts';

/** The window of the streamed document. */
export interface FrameWindow {
  location: { href: string };
  p?: (id: number, channel: string, text: unknown, eventid?: string, time?: string, tag?: string | number) => void;
}

export interface FrameTimes {
  timeout: number;
  pingtimeout: number;
}

/**
 * `register` gets the function to call with the frame's window. Breaks off if the frame does not register in `timeout`, is
 * silent for `pingtimeout`, or comes to its end.
 */
export async function hiddenFrame(
  line: Line,
  name: string,
  times: FrameTimes,
  take: NonNullable<FrameWindow['p']>,
  register: (f: (frame: FrameWindow) => void) => void,
): Promise<void> {
  const { url } = await line.request();
  if (line.signal.aborted) return;
  shareDomain();
  const frame = document.createElement('iframe');
  try {
    await new Promise<void>((_, reject) => {
      const fail = () => reject(new PushError('silence'));
      let timer = setTimeout(fail, times.timeout);
      const restart = () => {
        clearTimeout(timer);
        timer = setTimeout(fail, times.pingtimeout);
      };
      line.signal.addEventListener('abort', () => {
        clearTimeout(timer);
        fail();
      });
      register(view => {
        restart();
        view.p = (...all) => {
          restart();
          take(...all);
        };
        line.open();
      });
      frame.id = name;
      frame.style.cssText = 'position:absolute;width:1px;height:1px;border:0;visibility:hidden';
      frame.onload = () => {
        clearTimeout(timer);
        fail();
      };
      frame.src = url;
      document.body.appendChild(frame);
    });
  } finally {
    frame.onload = null;
    frame.remove();
  }
}
