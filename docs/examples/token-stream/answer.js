// answer.html?id=<32 hexadecimal digits>
const answer = new EventSource('/answers/' + new URLSearchParams(location.search).get('id'));
const end = (text) => {
  answer.close();
  document.getElementById('state').textContent = text;
};

answer.onmessage = (event) => document.getElementById('answer').append(event.data);
answer.addEventListener('done', () => end('Complete.'));
answer.addEventListener('failed', (event) => end(event.data));
answer.addEventListener('gap', () => end('A part is missing. Please ask again.'));
