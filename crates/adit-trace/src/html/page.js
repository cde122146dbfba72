'use strict';
// Everything foreign goes through textContent; nothing is ever parsed as markup.
(() => {
  const root = document.documentElement;
  const data = JSON.parse(document.getElementById('data').textContent);
  const make = (tag, name, text) => {
    const one = document.createElement(tag);
    if (name) one.className = name;
    if (text !== undefined) one.textContent = text;
    return one;
  };
  const all = (where, what) => Array.from(where.querySelectorAll(what));
  const named = { 9: '\\t', 10: '\\n', 13: '\\r', 32: '\u2423' };
  const ways = { u: 'client to server', d: 'server to client' };
  root.classList.add('live');

  const talks = all(document, 'article.talk').map((article) => talk(article));
  let current = talks[0];

  function talk(article) {
    const known = data.talks[article.dataset.conv];
    const rows = all(article, '.row');
    const player = article.querySelector('.player');
    const slider = player.querySelector('input');
    const output = player.querySelector('output');
    const play = player.querySelector('[data-do=play]');
    const detail = article.querySelector('.detail');
    const touching = all(article, '[data-w]');
    let shown = rows.length;
    let timer = 0;
    let pinned = null;
    slider.max = rows.length;
    slider.value = rows.length;

    const rowOf = (row) => known.rows[row.dataset.row];

    // The sequence up to and with the row number `count`, counted from 1.
    function reveal(count, follow) {
      shown = Math.max(0, Math.min(rows.length, count));
      rows.forEach((row, index) => {
        row.classList.toggle('later', index >= shown);
        row.classList.toggle('now', index === shown - 1 && shown < rows.length);
      });
      slider.value = shown;
      const row = rows[shown - 1];
      const at = row ? rowOf(row).t : 'before it';
      output.textContent = at;
      slider.setAttribute('aria-valuetext', at);
      if (row && follow) {
        row.scrollIntoView({ block: 'nearest' });
        tell(row);
      }
    }

    function stop() {
      clearInterval(timer);
      timer = 0;
      play.textContent = 'play';
      play.setAttribute('aria-label', 'Play');
    }

    function start() {
      if (shown >= rows.length) reveal(0, false);
      play.textContent = 'pause';
      play.setAttribute('aria-label', 'Pause');
      timer = setInterval(() => {
        reveal(shown + 1, true);
        if (shown >= rows.length) stop();
      }, 600);
    }

    const acts = {
      first: () => reveal(0, false),
      back: () => reveal(shown - 1, true),
      on: () => reveal(shown + 1, true),
      last: () => reveal(rows.length, false),
      play: () => (timer ? stop() : start()),
    };
    function act(word) {
      if (word !== 'play') stop();
      acts[word]();
    }
    player.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button) act(button.dataset.do);
    });
    slider.addEventListener('input', () => {
      stop();
      reveal(Number(slider.value), true);
    });

    function hint() {
      detail.replaceChildren(
        make('h4', '', 'This line in full'),
        make('p', 'hint', 'Point at a line, or walk through the lines with the tab key. ' +
          'A byte shows every event that touched it; a click keeps it.'),
      );
    }

    function tell(row) {
      const what = rowOf(row);
      detail.replaceChildren(make('h4', '', what.label), make('p', 'hint', what.note || what.t));
      what.acts.forEach((index) => detail.append(describe(known.acts[index])));
      if (what.more) detail.append(make('p', 'hint', what.more + ' more events in this line'));
    }

    function describe(one) {
      const box = make('div', 'act');
      box.append(make('p', 'call', one.call));
      const where = one.w === undefined ? '' : ', ' + ways[one.w];
      const range = one.a === undefined ? '' : ', bytes ' + one.a + ' to ' + one.z;
      box.append(make('small', '', one.who + ', ' + one.t + where + range + ', event ' + one.n));
      if (one.hex) box.append(cells(one));
      return box;
    }

    function cells(one) {
      const box = make('div', 'bytes');
      for (let at = 0; at < one.hex.length; at += 2) {
        const value = parseInt(one.hex.slice(at, at + 2), 16);
        const plain = value > 32 && value < 127 ? String.fromCharCode(value) : one.hex.slice(at, at + 2);
        const cell = make('button', '', named[value] || plain);
        cell.type = 'button';
        cell.dataset.w = one.w;
        if (one.a === undefined) {
          cell.dataset.m = one.m;
        } else {
          cell.dataset.a = one.a + at / 2;
          cell.dataset.z = one.a + at / 2 + 1;
        }
        box.append(cell);
      }
      return box;
    }

    // Marks what touched a byte of a stream, or a datagram.
    function mark(spot) {
      const is = (item) => {
        const { w, a, z, m } = item.dataset;
        if (!spot || w !== spot.w) return false;
        if (spot.m !== undefined) return m === spot.m;
        return a !== undefined && Number(a) <= spot.byte && spot.byte < Number(z);
      };
      touching.forEach((item) => item.classList.toggle('marked', is(item)));
      all(detail, '.bytes button').forEach((item) => item.classList.toggle('marked', is(item)));
    }

    function touched(spot) {
      return Object.values(known.acts).filter((one) => {
        if (one.w !== spot.w) return false;
        if (spot.m !== undefined) return String(one.m) === spot.m;
        return one.a !== undefined && one.a <= spot.byte && spot.byte < one.z;
      });
    }

    function list(spot) {
      const found = touched(spot);
      const title = spot.m === undefined ? 'Byte ' + spot.byte : 'Datagram ' + spot.m;
      detail.replaceChildren(
        make('h4', '', title + ', ' + ways[spot.w]),
        make('p', 'hint', found.length === 1 ? '1 event touched it' : found.length + ' events touched it'),
      );
      found.slice(0, 40).forEach((one) => detail.append(describe(one)));
      mark(spot);
    }

    // The byte under the pointer, within a piece of many.
    function spotOf(item, event) {
      const { w, a, z, m } = item.dataset;
      if (m !== undefined) return { w, m };
      const [from, to] = [Number(a), Number(z)];
      const box = item.getBoundingClientRect();
      const part = event.clientX > box.left ? (event.clientX - box.left) / Math.max(1, box.width) : 0;
      return { w, byte: Math.min(to - 1, from + Math.floor(part * (to - from))) };
    }

    function item(event) {
      return event.target.closest('.piece, .byte, .bytes button');
    }
    const isCell = (one) => one.tagName === 'BUTTON';

    article.addEventListener('mouseover', (event) => {
      const one = item(event);
      if (one && pinned === null) {
        if (isCell(one)) mark(spotOf(one, event));
        else list(spotOf(one, event));
        return;
      }
      const row = event.target.closest('.row');
      if (row && pinned === null) tell(row);
    });
    article.addEventListener('mouseout', (event) => {
      if (item(event) && pinned === null) mark(null);
    });
    article.addEventListener('focusin', (event) => {
      const row = event.target.closest('.row');
      if (row) tell(row);
      const one = item(event);
      if (one && !isCell(one) && pinned === null) list(spotOf(one, { clientX: 0 }));
    });
    article.addEventListener('click', (event) => {
      const one = item(event);
      if (one) {
        pinned = spotOf(one, event);
        list(pinned);
        return;
      }
      const row = event.target.closest('.row');
      if (row) {
        pinned = null;
        mark(null);
        tell(row);
      }
    });
    article.addEventListener('keydown', (event) => {
      const one = item(event);
      if (event.key === 'Escape') {
        pinned = null;
        mark(null);
        hint();
      } else if (one && !isCell(one) && (event.key === 'Enter' || event.key === ' ')) {
        event.preventDefault();
        pinned = spotOf(one, { clientX: 0 });
        list(pinned);
      }
    });

    const tabs = article.querySelector('.tabs');
    const views = all(article, '.view');
    function select(word) {
      const view = views.find((one) => one.dataset.view === word) || views[0];
      views.forEach((one) => one.classList.toggle('on', one === view));
      all(tabs, 'button').forEach((tab) => {
        const is = tab.dataset.view === view.dataset.view;
        tab.setAttribute('aria-selected', String(is));
        tab.tabIndex = is ? 0 : -1;
      });
    }
    views.forEach((view) => {
      const tab = make('button', '', view.getAttribute('aria-label'));
      tab.type = 'button';
      tab.setAttribute('role', 'tab');
      tab.dataset.view = view.dataset.view;
      view.setAttribute('role', 'tabpanel');
      tabs.append(tab);
    });
    tabs.addEventListener('click', (event) => {
      const tab = event.target.closest('button');
      if (tab) select(tab.dataset.view);
    });
    tabs.addEventListener('keydown', (event) => {
      const list = all(tabs, 'button');
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      const next = list[(list.indexOf(document.activeElement) + step + list.length) % list.length];
      select(next.dataset.view);
      next.focus();
    });

    rows.concat(all(article, '.piece, .byte')).forEach((one) => {
      one.setAttribute('tabindex', '0');
      const title = one.querySelector('title');
      if (title) one.setAttribute('aria-label', title.textContent);
      one.setAttribute('role', 'button');
    });
    select('sequence');
    reveal(rows.length, false);
    hint();

    // As far as it was at a moment in milliseconds.
    const until = (ms) => reveal(rows.filter((row) => rowOf(row).ms <= ms).length, true);
    // The lines with these events.
    function point(causes) {
      const is = (row) => rowOf(row).acts.some((index) => causes.has(known.acts[index].n));
      rows.forEach((row) => row.classList.toggle('marked', is(row)));
      const first = rows.find(is);
      if (first) {
        first.scrollIntoView({ block: 'center' });
        tell(first);
      }
    }
    return { article, act, select, until, stop, point };
  }

  function open(one) {
    if (!one) return;
    if (current && current !== one) current.stop();
    current = one;
    talks.forEach((other) => other.article.classList.toggle('on', other === one));
    all(document, '.list tr').forEach((line) => {
      line.classList.toggle('on', line.dataset.conv === one.article.dataset.conv);
    });
  }

  // #talk-3, #talk-3,ruler, #talk-3,sequence,501.2: conversation, picture, moment in milliseconds.
  function follow() {
    const [, number, view, moment] = /^#talk-(\d+)(?:,([a-z]+))?(?:,([\d.]+))?/.exec(location.hash) || [];
    const one = talks.find((other) => other.article.dataset.conv === number) || current;
    open(one);
    if (one && view) one.select(view);
    if (one && moment) one.until(Number(moment));
  }
  window.addEventListener('hashchange', follow);
  follow();

  document.addEventListener('keydown', (event) => {
    const words = { ' ': 'play', ArrowLeft: 'back', ArrowRight: 'on', Home: 'first', End: 'last' };
    const busy = event.target.closest('input, button, summary, a, [role=button]');
    const isStep = event.key === 'ArrowLeft' || event.key === 'ArrowRight';
    if (!current || event.ctrlKey || event.altKey || event.metaKey || !words[event.key]) return;
    if (busy && !(isStep && busy.getAttribute('role') === 'button')) return;
    event.preventDefault();
    current.act(words[event.key]);
  });

  // A finding marks the lines it was found by.
  document.addEventListener('click', (event) => {
    const link = event.target.closest('a[data-causes]');
    if (!link) return;
    const causes = new Set(link.dataset.causes.split(' ').map(Number));
    const number = link.getAttribute('href').slice(6).split(',')[0];
    const one = talks.find((other) => other.article.dataset.conv === number);
    if (one) setTimeout(() => one.point(causes), 0);
  });

  const search = document.querySelector('input[type=search]');
  if (search) {
    const lines = all(document, '.list tbody tr');
    const count = document.querySelector('.found');
    search.addEventListener('input', () => {
      const wanted = search.value.toLowerCase();
      let found = 0;
      lines.forEach((line) => {
        line.hidden = !line.textContent.toLowerCase().includes(wanted);
        found += line.hidden ? 0 : 1;
      });
      count.textContent = found + ' of ' + lines.length;
    });
  }
})();
