const news = new EventSource('/notifications');

news.onmessage = (event) => {
  const { title, link } = JSON.parse(event.data);
  const item = document.createElement('a');
  item.textContent = title;
  item.href = new URL(link, location.origin).pathname;
  document.getElementById('notifications').prepend(item);
};

// Some are no longer stored: the page has to load its list from the site.
news.addEventListener('gap', () => location.reload());

// The browser gives up after a refusal, for instance when the session is over.
news.onerror = () => {
  if (news.readyState === EventSource.CLOSED) document.getElementById('state').textContent = 'Please log in again.';
};
