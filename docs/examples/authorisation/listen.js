import { Subscriber } from './index.js';

const board = new Subscriber('/', {
  channels: ['board'],
  locations: { fetch: '/tokens' },
  transports: ['fetch'],
  // Asked before each connection, so a token may be good for a minute only.
  async headers() {
    const answer = await fetch('/token-for/board');
    return answer.ok ? { Authorization: `Bearer ${await answer.text()}` } : {};
  },
});
board.on('message', (message) => document.getElementById('board').append(message.text + '\n'));
board.on('error', (error) => console.warn(error.kind, error.status));
