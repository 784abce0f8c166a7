// Chat: a room is the channel `chat-<room>`; `who-<room>` carries, without being stored, who is there.

import { append, clock, element, token } from '/frame.js';
import { subscribe } from '/subscribe.js';

const ROOMS = ['lobby', 'coffee', 'help'];
const SAY_AGAIN_MSEC = 20_000;
const GONE_MSEC = 45_000;

const at = id => document.getElementById(id);
const own = sessionStorage.getItem('page') ?? token();
sessionStorage.setItem('page', own);

let room;
let subscriber;
let people = new Map();     // page → { name, seen }
let count = 0;              // subscribers of the room, as the server counts

at('name').value = localStorage.getItem('name') ?? `guest ${1 + Math.floor(Math.random() * 999)}`;

// ---- what comes

function showMessage(message) {
    let said;
    try { said = message.json(); } catch { said = null; }
    // A publisher may be anything, such as curl.
    const { name = 'someone', text = message.text, page } = said && typeof said === 'object' ? said : {};
    append(at('log'), element('li', page === own ? { class: 'own' } : {},
        element('span', { class: 'who' }, String(name)),
        element('time', { datetime: message.time.toISOString() }, clock.format(message.time)),
        element('span', { class: 'what' }, String(text))));
}

function showEvent(text) { append(at('log'), element('li', { class: 'event' }, text)); }

function showPeople() {
    const now = Date.now();
    for (const [page, { seen }] of people) if (now - seen > GONE_MSEC && page !== own) people.delete(page);
    at('people').replaceChildren(...[...people.values()].map(({ name }) => element('li', {}, name)));
    at('count').textContent = count ? `${count} connected, as the server counts` : '';
}

function hear(message) {
    let said;
    try { said = message.json(); } catch { return; }
    if (typeof said?.page !== 'string' || typeof said.name !== 'string') return;
    if (said.gone) people.delete(said.page);
    else people.set(said.page, { name: said.name, seen: Date.now() });
    // A page that has just come does not know the others yet.
    if (said.asks && said.page !== own) announce();
    showPeople();
}

// The events channel tells of subscribers of all channels.
function countChange(message) {
    let event;
    try { event = message.json(); } catch { return; }
    if (event.channel !== `chat-${room}`) return;
    if (event.type === 'client_subscribed') count++;
    if (event.type === 'client_unsubscribed') count--;
    showPeople();
}

// ---- what goes out

function tell(said) {
    const body = JSON.stringify({ page: own, name: at('name').value, ...said });
    return fetch(`/tell?id=who-${room}`, { method: 'POST', body, keepalive: true }).catch(() => { });
}

const announce = () => tell({});

async function readCount() {
    const answer = await fetch(`/channels-stats?id=chat-${room}`, { headers: { Accept: 'application/json' }, cache: 'no-store' }).catch(() => null);
    count = answer?.ok ? Number((await answer.json()).subscribers) : 0;
    showPeople();
}

// ---- rooms

function enter(name) {
    if (subscriber) {
        tell({ gone: true });
        subscriber.close();
    }
    room = name;
    people = new Map([[own, { name: at('name').value, seen: Infinity }]]);
    at('log').replaceChildren();
    at('room-title').textContent = `#${room}`;
    document.title = `#${room} · Chat`;
    const rooms = ROOMS.includes(room) ? ROOMS : [...ROOMS, room];
    at('rooms').replaceChildren(...rooms.map(id =>
        element('li', {}, element('a', { href: `#${id}`, ...(id === room && { 'aria-current': 'true' }) }, id))));

    subscriber = subscribe({ channels: [{ id: `chat-${room}`, backtrack: 50 }, `who-${room}`, 'events'] });
    subscriber.on('message', message => {
        if (message.channel === 'events') countChange(message);
        else if (message.channel.startsWith('who-')) hear(message);
        else showMessage(message);
    });
    subscriber.on('gap', ({ channel, missed }) => {
        if (channel.startsWith('chat-')) showEvent(`${missed ?? 'Some'} messages are gone`);
    });
    subscriber.on('open', () => {
        tell({ asks: true });
        readCount();
    });
}

function entered() { return /^#([A-Za-z0-9-]{1,30})$/.exec(location.hash)?.[1] ?? ROOMS[0]; }

addEventListener('hashchange', () => enter(entered()));
addEventListener('pagehide', () => tell({ gone: true }));
setInterval(() => { announce(); showPeople(); }, SAY_AGAIN_MSEC);

at('enter').addEventListener('submit', event => {
    event.preventDefault();
    location.hash = at('room').value;
    at('room').value = '';
});

at('name').addEventListener('change', () => {
    localStorage.setItem('name', at('name').value);
    people.set(own, { name: at('name').value, seen: Infinity });
    announce();
    showPeople();
});

at('say').addEventListener('submit', async event => {
    event.preventDefault();
    const text = at('text');
    const name = at('name').value;
    localStorage.setItem('name', name);
    try {
        await subscriber.publish(`chat-${room}`, JSON.stringify({ page: own, name, text: text.value }));
        text.value = '';
        at('problem').textContent = '';
    } catch (error) {
        at('problem').textContent = `Not sent: ${error.message}. Your text is still there.`;
    }
    text.focus();
});

enter(entered());
