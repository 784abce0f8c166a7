const cells = {};
for (const symbol of ['AAPL', 'MSFT']) {
  const name = document.createElement('dt');
  name.textContent = symbol;
  cells[symbol] = document.createElement('dd');
  document.getElementById('prices').append(name, cells[symbol]);
}

function listen() {
  const prices = new EventSource('/prices/' + Object.keys(cells).map((symbol) => symbol + '.b1').join('/'));
  prices.onmessage = (event) => {
    const { symbol, price } = JSON.parse(event.data);
    cells[symbol].textContent = price;
  };
  // This page was too slow, and the last price of a symbol may be among those that it has not got.
  prices.addEventListener('gap', (event) => {
    if (JSON.parse(event.data).reason !== 'slow') return;
    prices.close();
    setTimeout(listen, 1000);
  });
}
listen();
