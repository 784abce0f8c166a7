// The start page: one channel to try, and whether the server is well.

import { append, clock, element, token } from '/frame.js';
import { subscribe } from '/subscribe.js';

const at = id => document.getElementById(id);
const log = at('log');
const sent = new Map();

at('listen').textContent = `curl -sN ${location.origin}/sub/news`;
at('publish').textContent = `curl -s -d 'hello, world' '${location.origin}/pub?id=news'`;

const news = subscribe({ channels: [{ id: 'news', backtrack: 3 }] });
news.on('message', message => {
    const since = sent.get(message.eventId);
    if (since !== undefined) {
        sent.delete(message.eventId);
        at('delay').replaceChildren((performance.now() - since).toFixed(1), element('small', {}, ' ms'));
    }
    append(log, element('li', {},
        element('span', {}, message.text),
        element('time', { datetime: message.time.toISOString() }, `${message.id} · ${clock.format(message.time)}`)), 5);
});
news.on('gap', ({ missed }) => append(log, element('li', { class: 'told' }, `${missed ?? 'some'} messages are gone`), 5));

at('say').addEventListener('submit', async event => {
    event.preventDefault();
    const text = at('text');
    const eventId = token();
    sent.set(eventId, performance.now());
    try {
        await news.publish('news', text.value, { eventId });
        text.select();
    } catch (error) {
        append(log, element('li', { class: 'wrong' }, `not published: ${error.message}`), 5);
    }
});

async function look() {
    try {
        const answer = await fetch('/channels-stats', { headers: { Accept: 'application/json' }, cache: 'no-store' });
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        const stats = await answer.json();
        at('health').textContent = 'well';
        for (const [id, value] of [['subscribers', stats.subscribers], ['channels', stats.channels], ['published', stats.published_messages]]) {
            at(id).textContent = Number(value).toLocaleString();
        }
    } catch {
        at('health').textContent = 'no answer';
    }
}

look();
setInterval(() => document.hidden || look(), 2000);
