// One request with fetch. An answer that is neither 200 nor 304 is an error.

import { refusal } from '../error.ts';
import type { Line } from './line.ts';

export async function ask(line: Line): Promise<Response> {
  const { url, ...init } = await line.request();
  const response = await fetch(url, { cache: 'no-store', signal: line.signal, ...init });
  const { status, headers } = response;
  if (status !== 200 && status !== 304) {
    throw refusal(status, headers.get('X-Nginx-PushStream-Explain'), headers.get('Retry-After'));
  }
  return response;
}
