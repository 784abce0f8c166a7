// A WebSocket. Browsers show neither its pings nor the status of a refusal; ours come as close code 1008 with a reason.

import { PushError, refusal } from '../error.ts';
import { fields } from '../message.ts';
import type { Connect } from './line.ts';

export const websocket: Connect = async line => {
  const { url } = await line.request();
  if (line.signal.aborted) return;
  const socket = new WebSocket(url.replace(/^http/, 'ws'));
  socket.binaryType = 'arraybuffer';
  line.send = text => socket.send(text);
  return new Promise((resolve, reject) => {
    line.signal.addEventListener('abort', () => socket.close());
    socket.onopen = () => line.open();
    socket.onmessage = ({ data }) => {
      line.heard(false);
      line.take(typeof data === 'string' ? data : new TextDecoder().decode(data));
    };
    socket.onclose = ({ code, reason }) => {
      const told = fields(reason);
      if (code === 1008 && told) reject(refusal(Number(told.http_status), String(told.explain)));
      else if (code === 1006) reject(new PushError('network'));
      else resolve();
    };
  });
};
