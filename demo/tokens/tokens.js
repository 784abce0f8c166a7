// Token stream: the page publishes a question; the back end publishes each word of the answer to the channel
// `answer-<number of the question>`, and `done` at the end. What the page has is in sessionStorage, with the cursor of it.

import { say, token } from '/frame.js';
import { subscribe } from '/subscribe.js';

const at = id => document.getElementById(id);
const CUT_MSEC = 3000;

let question;
let subscriber;
let text = '';
let words = 0;
let isDone = false;
let comesBack;      // the timer after a cut

function keep() { sessionStorage.setItem(`answer-${question}`, JSON.stringify({ text, words, isDone, cursor: subscriber?.cursor })); }

function kept() {
    try { return JSON.parse(sessionStorage.getItem(`answer-${question}`)); } catch { return null; }
}

function show(note) {
    at('answer').textContent = text;
    at('answer').toggleAttribute('data-running', !isDone);
    if (note) at('said').textContent = note;
    at('reload').disabled = at('drop').disabled = false;
}

function listen(cursor) {
    subscriber = subscribe({ channels: [`answer-${question}`], ...(cursor ? { cursor } : { since: new Date(0) }) });
    const from = words;
    subscriber.on('message', message => {
        const part = message.json();
        text += part.word ?? '';
        words += part.word === undefined ? 0 : 1;
        isDone = part.done === true;
        const resumed = from ? ` (${from} of them were here before)` : '';
        show(isDone ? `Complete: ${words} words${resumed}.` : `${words} words${resumed}.`);
        at('progress').hidden = false;
        at('progress').value = isDone ? 1 : words / part.of;
        keep();
        if (isDone) {
            subscriber.close();
            say('idle');
        }
    });
    subscriber.on('gap', ({ missed }) => show(`${missed ?? 'Some'} words are gone: they are stored for ten minutes.`));
    subscriber.on('error', error => show(`Trouble: ${error.message}`));
}

// Shows an answer from its beginning, or from where this page has it.
function open() {
    question = /^#([0-9a-f]{16})$/.exec(location.hash)?.[1];
    at('share').hidden = !question;
    clearTimeout(comesBack);
    subscriber?.close();
    ({ text, words, isDone } = { text: '', words: 0, isDone: false });
    if (!question) { say('idle'); return; }
    at('address').textContent = location.href;
    const before = kept();
    if (before) ({ text, words, isDone } = before);
    show(before ? `${words} words were here before.` : 'Waiting for the first word.');
    if (isDone) { say('idle'); show(`Complete: ${words} words.`); } else listen(before?.cursor);
}

at('ask').addEventListener('submit', async event => {
    event.preventDefault();
    const id = token();
    const body = `${id} ${at('question').value}`;
    const answer = await fetch('/pub?id=questions', { method: 'POST', body }).catch(() => null);
    if (!answer?.ok) { at('said').textContent = 'The question was not published.'; return; }
    location.hash = id;
});

at('reload').addEventListener('click', () => location.reload());
at('drop').addEventListener('click', () => {
    const cursor = subscriber.cursor;
    subscriber.close();
    at('drop').disabled = true;
    show(`Cut after ${words} words. Connecting again in three seconds.`);
    comesBack = setTimeout(() => isDone || listen(cursor), CUT_MSEC);
});

addEventListener('hashchange', open);
open();
