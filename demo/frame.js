// The frame that all pages share: how the connection is, and how elements are made. Everything that comes from messages
// becomes text, never HTML.

const WORDS = { connecting: 'connecting', open: 'connected', waiting: 'connecting again', closed: 'not connected', idle: 'nothing to wait for' };

// Says in the bar at the top how the page is connected.
export function say(state, how = '') {
    const shown = document.getElementById('state');
    shown.dataset.state = state;
    shown.textContent = how ? `${WORDS[state]} by ${how}` : WORDS[state];
}

export function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
}

export const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit' });

// Adds a line at the end of a log, and keeps the end in sight if it was. The oldest lines go.
export function append(log, item, most = 200) {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.append(item);
    while (log.children.length > most) log.firstElementChild.remove();
    if (atEnd) log.scrollTop = log.scrollHeight;
}

// A random name for a page, a question or a message.
export function token() {
    return Array.from(crypto.getRandomValues(new Uint8Array(8)), byte => byte.toString(16).padStart(2, '0')).join('');
}
