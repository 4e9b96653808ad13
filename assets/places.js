// What a tab shows: its requests for updates, and its place, which is its address (blockskip/studio/places.py).
(() => {
  // Requests for updates, one at a time. On a busy machine answers come late: a request has a number, which its answer
  // brings back as `answered`. Until then nothing new is asked. If no answer comes, everything is asked anew; an
  // answer that comes later still is recognised by its number, and everything is asked once more.
  const patience = {opening: 90000, answer: 15000, words: 8000};  // ms
  const value = id => document.querySelector(`#${id} :is(textarea, input)`)?.value || '';
  let asked = 0, at = Date.now(), answeredAt = Date.now(), waits = false, missing = 0;
  const answeredAny = () => Number(value('answered')) > 0;
  const pending = () => asked !== Number(value('answered'));
  const late = () => Date.now() - at > (asked > 1 ? patience.answer : patience.opening);
  const request = async urgent => {
    if (pending() && !late()) {
      if (!urgent || waits) return [viewNow(), '', ''];  // needs no answer: another one is on its way
      waits = true;
      while (pending() && !late()) await new Promise(done => setTimeout(done, 20));
      waits = false;
    }
    const lost = pending();
    if (lost && !Number(value('answered'))) location.reload();  // not even opened
    asked += 1;
    at = Date.now();
    const gone = !document.getElementById(section() || 'setup');
    missing = gone ? missing + 1 : 0;
    if (missing > 3) location.reload();
    return [viewNow(), lost || gone ? '' : value('tokens'), String(asked)];
  };
  // Once a second, but never while an answer is on its way: many tabs on a busy machine would only make it later.
  setInterval(() => {
    if (!pending() || late()) document.getElementById('tick')?.click();
    const words = document.querySelector('#behind p');
    if (words) words.hidden = !(pending() && Date.now() - Math.max(answeredAt, at) > patience.words);
    if (answeredAny() && place() && value('shown') !== viewNow()) blockskip.follow(viewNow());
  }, 1000);

  // Places. The address says what the tab shows (blockskip/studio/places.py); the hidden field `shown`, which the
  // server reads, follows it. What is drawn for another place is not shown. `moves` counts the ways taken.
  const NO_VIEW = '?', leaving = {}, scrolled = {};
  let moves = 0, linked = false, arriving = null;
  const placeOf = hash => {  // null: no place
    const [start, kind, name, part] = hash.split('/');
    if (start !== '#') return null;
    if (kind === 'setup') return {view: '', part: name || ''};
    if (kind === 'trainings') return {view: '*', part: ''};
    try {
      return kind === 'training' && name ? {view: decodeURIComponent(name), part: part || ''} : null;
    } catch { return null; }
  };
  const addressOf = view => ({'': '#/setup', '*': '#/trainings'}[view] ?? `#/training/${encodeURIComponent(view)}`);
  const place = () => placeOf(location.hash);
  const viewNow = () => place()?.view ?? NO_VIEW;
  const section = () => place() && ({'': 'setup', '*': 'list'}[place().view] ?? 'run');
  const isDrawn = () => ({setup: () => true, list: () => document.querySelector('#list h2'),
    run: () => document.querySelector('#status [data-run]')?.dataset.run === place().view})[section()]();
  const tell = () => {
    const now = document.querySelector(section() === 'run' ? '#status [data-title]' : '#nav [data-title]');
    if (now) document.title = now.dataset.title;
  };
  // Called with each answer and on each way: shows the section of the address as soon as it is drawn.
  const show = () => {
    if (!answeredAny()) return;
    const shown = section() && isDrawn() ? section() : 'opening';
    document.body.dataset.section = shown;
    if (shown === 'opening') return;
    tell();
    if (arriving) requestAnimationFrame(arrive);
  };
  const answer = () => { answeredAt = Date.now(); show(); blockskip.unmark(); };
  // The heading of the place gets the focus, unless it went elsewhere while the place was opened.
  const arrive = () => {
    if (!arriving || document.body.dataset.section !== section()) return;
    const {top, from} = arriving, part = {budget: '#setup .card:has(#budget) h2', results: '#results h2'}[place().part];
    const seen = one => one?.checkVisibility() ? one : null;
    const target = seen(part && document.querySelector(part));
    const head = target || [...document.querySelectorAll(`#${section()} :is(h2, .note)`)].find(seen);
    arriving = null;
    if (target && !top) target.scrollIntoView({block: 'start'});
    else scrollTo(0, top);
    const now = document.activeElement;
    if (!head || ![document.body, from, document.querySelector('#opening p')].includes(now) && seen(now)) return;
    head.tabIndex = -1;
    head.focus({preventScroll: true});
  };
  const arriveAt = top => {
    arriving = {top, from: document.activeElement};
    show();
    if (document.body.dataset.section === 'opening') {
      scrollTo(0, 0);
      document.querySelector('#opening p')?.focus({preventScroll: true});
    }
  };
  history.scrollRestoration = 'manual';
  let was = location.hash;
  const moved = () => {
    const before = was;
    was = location.hash;
    if (was === before) return;
    if (!place()) {  // typed by hand: the tab stays where it is
      if (placeOf(before)) settleAt(before);
      return;
    }
    moves += 1;
    scrolled[before] = scrollY;
    arriveAt(linked ? 0 : scrolled[was] || 0);
    linked = false;
    blockskip.follow(viewNow());
  };
  const settleAt = hash => { history.replaceState(null, '', hash); was = location.hash; };
  addEventListener('popstate', moved);  // comes at once, but not in every browser for every way
  addEventListener('hashchange', moved);
  document.addEventListener('click', event => {
    const link = event.target.closest('a[href^="#/"]'), press = event.target.closest('#train, #again');
    if (press) leaves(press.id);
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;  // those open another tab
    linked = true;
    if (link.hash === location.hash) { arriveAt(0); linked = false; }
  }, true);
  const leaves = kind => { leaving[kind] = moves; };
  // Where an answer leads: there, unless the tab went elsewhere after the press. Returns `shown` and `led`.
  const lead = (kind, to) => {
    if (to === NO_VIEW || leaving[kind] !== moves) return [viewNow(), NO_VIEW];
    linked = true;
    if (addressOf(to) === location.hash) { arriveAt(0); linked = false; }
    else location.hash = addressOf(to);
    return [to, NO_VIEW];
  };
  // `shown` was changed: a tab without an address gets that of what the server chose.
  const settle = view => {
    if (!place() && view !== NO_VIEW) settleAt(addressOf(view));
    show();
    return viewNow();
  };

  Object.assign(blockskip, {request, answer, settle, lead, leaves, show, tell, addressOf, follow: () => {}, patience});
})();
