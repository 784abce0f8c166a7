import { Subscriber } from './index.js';

const $ = (id) => document.getElementById(id);

function show(line) {
  const item = document.createElement('li');
  item.textContent = line;
  $('messages').append(item);
}

const room = new Subscriber('/', {
  channels: [{ id: 'lobby', backtrack: 20 }],
  transports: ['websocket', 'fetch'],
});
room.on('message', (message) => {
  const { author, text } = message.json();
  show(`${message.time.toLocaleTimeString()} ${author}: ${text}`);
});
room.on('gap', ({ missed }) => show(`(${missed ?? 'some'} messages are missing here)`));

$('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = $('text').value;
  $('text').value = '';
  try {
    await room.publish('lobby', JSON.stringify({ author: $('author').value, text }));
  } catch (error) {
    $('text').value = text;
    show(`(not sent: ${error.message})`);
  }
});
