// Shows what happens while the first page is open. All text is set as text; nothing of it is read as HTML.
'use strict';

const feed = document.getElementById('feed');
const live = document.getElementById('live');
const shown = 100;

function add(event) {
  const item = document.getElementById('event').content.cloneNode(true).firstElementChild;
  item.className = event.what;
  item.querySelector('time').textContent = event.at;
  item.querySelector('b').textContent = event.what;
  const link = item.querySelector('a');
  link.textContent = event.address;
  link.href = 'why?address=' + encodeURIComponent(event.address);
  item.querySelector('.place').textContent = event.place;
  item.querySelector('.jail').textContent = event.jail;
  item.querySelector('.reason').textContent = event.reason;
  feed.prepend(item);
  while (feed.children.length > shown) feed.lastElementChild.remove();
}

function tell(text) {
  if (live.textContent !== text) live.textContent = text;
}

function show({ data }) {
  const { mood, texts, alarms, events, whole } = JSON.parse(data);
  for (const [id, text] of Object.entries(texts)) {
    const element = document.getElementById(id);
    if (element && element.textContent !== text) element.textContent = text;
  }
  document.getElementById('state').className = mood;
  const list = document.getElementById('alarms');
  if (Array.from(list.children, (item) => item.textContent).join('\n') !== alarms.join('\n')) {
    list.replaceChildren(...alarms.map((alarm) => {
      const item = document.createElement('li');
      item.textContent = alarm;
      return item;
    }));
  }
  if (whole) feed.replaceChildren();
  events.forEach(add);
}

// A browser has six connections to a server, and a page that nobody sees needs none.
let source = null;
function listen() {
  source?.close();
  source = null;
  if (document.hidden) return;
  const opened = new EventSource('events');
  opened.onopen = () => tell('Live: new bans and those that end appear here.');
  opened.onerror = () => tell(opened.readyState === EventSource.CLOSED
    ? 'Not live: too many pages are open, or `banstream web` was started again and has another address.'
    : 'Not live: the connection is lost; trying again.');
  opened.onmessage = show;
  source = opened;
}

if (feed) {
  document.addEventListener('visibilitychange', listen);
  listen();
}
