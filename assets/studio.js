// The page's own behaviour: clicks, dialogs, the line between before and after. All text comes from the
// server (blockskip/studio/strings). Each function below gets one drawn part of the page.
window.blockskip = (() => {
  const make = (tag, className, properties = {}) => Object.assign(document.createElement(tag), {className, ...properties});
  const home = () => document.querySelector('.gradio-container .contain') || document.body;  // where studio.css applies

  // A dialog that is removed when it is closed, and returns the focus.
  const dialog = (className, label, back) => {
    const box = make('dialog', className);
    box.setAttribute('aria-label', label);
    box.addEventListener('close', () => { box.remove(); if (back && back.isConnected) back.focus(); });
    home().append(box);
    return box;
  };
  const button = (text, className, press) => {
    const one = make('button', className, {type: 'button', textContent: text});
    one.addEventListener('click', press);
    return one;
  };
  // A question with one answer (typed text, or true), which is passed to `done`.
  const ask = (from, question, value, done) => {
    const box = dialog('ask', question, from), typed = value === undefined ? null : make('input', '', {value, maxLength: 40});
    box.append(make('p', '', {textContent: question}));
    if (typed) { typed.setAttribute('aria-label', question); box.append(typed); }
    const row = make('p', 'presses');
    const finish = () => { const said = typed ? typed.value : true; box.close(); done(said); };
    row.append(button(from.textContent, typed ? 'press primary' : 'press danger', finish),
      button('✕', 'press', () => box.close()));
    row.lastChild.setAttribute('aria-label', document.querySelector('.nav').dataset.cancel);
    if (typed) typed.addEventListener('keydown', event => { if (event.key === 'Enter') { event.preventDefault(); finish(); } });
    box.append(row);
    box.showModal();
    (typed || row.lastChild).focus();
  };

  // A click on anything with data-do is sent to the server with its data and the value of its field.
  let last = '';
  const presses = ({element, trigger}) => element.addEventListener('click', event => {
    const pressed = event.target.closest('[data-do], [data-budget]');
    if (!pressed || !element.contains(pressed) || pressed.href) return;  // links are followed by the browser
    const said = {do: 'budget', ...pressed.dataset};
    const same = JSON.stringify(said);
    if (event.detail > 1 && same === last) return;  // the second of a double click
    last = same;
    if (said.slow) {  // starts a process: block further clicks for some seconds
      pressed.disabled = true;
      setTimeout(() => { pressed.disabled = false; }, 8000);
    }
    if (said.field) {
      const field = element.querySelector(`[name="${said.field}"]`);
      said.value = field.value;
      if (field.type === 'password') {
        field.value = '';
        field.dispatchEvent(new Event('input', {bubbles: true}));  // otherwise `keep` would restore the typed text
      }
    }
    if (said.reset) {  // its text is given anew by the server
      const field = element.querySelector(`[name="${said.reset}"]`);
      field.value = '';
      field.dispatchEvent(new Event('input', {bubbles: true}));
    }
    const send = all => {
      if (['again', 'delete'].includes(all.do)) leaving.part = moves;
      trigger('click', all);
    };
    if (said.confirm) ask(pressed, said.confirm, undefined, () => send(said));
    else if (said.ask) ask(pressed, said.ask, said.value, value => send({...said, value}));
    else send(said);
  });

  // Returning to this tab loads answers given in another one. The view follows the address.
  const nav = part => {
    presses(part);
    follow = () => part.trigger('click', {do: {'': 'new', '*': 'list'}[place().view] ?? 'open'});
    part.watch('value', tell);
    document.addEventListener('visibilitychange', () => { if (!document.hidden) part.trigger('click', {do: 'here'}); });
  };

  // Keep typed text, open folds and the focus when a part is redrawn.
  const keep = ({element, watch}) => {
    const typed = {};
    let open = new Set(), focus = '';
    element.addEventListener('input', event => { if (event.target.name) typed[event.target.name] = event.target.value; });
    element.addEventListener('toggle', event => {
      const name = event.target.querySelector('summary')?.textContent;
      event.target.open ? open.add(name) : open.delete(name);
    }, true);
    element.addEventListener('focusin', event => { focus = place(event.target); });
    element.addEventListener('focusout', event => { if (event.target.isConnected) focus = ''; });
    const place = one => one.name ? `[name="${one.name}"]` : one.dataset.do ? `[data-do="${one.dataset.do}"]` +
      ['model', 'file', 'run', 'id'].map(key => one.dataset[key] ? `[data-${key}="${CSS.escape(one.dataset[key])}"]` : '').join('') : '';
    watch('value', () => {
      for (const fold of element.querySelectorAll('details')) fold.open = open.has(fold.querySelector('summary').textContent);
      for (const field of element.querySelectorAll('input[type=text], input[type=password], textarea'))
        if (typed[field.name]) field.value = typed[field.name];
      if (focus && document.activeElement === document.body) element.querySelector(focus)?.focus();
    });
  };
  const models = part => { presses(part); keep(part); };

  // A click on a picture shows it large; any click closes it.
  const zoomable = element => element.addEventListener('click', event => {
    const small = event.target.closest('.zoom');
    if (!small) return;
    const box = dialog('large', small.querySelector('img').alt, small);
    box.append(make('img', '', {src: small.dataset.large, alt: small.querySelector('img').alt}),
      make('p', '', {textContent: small.querySelector('img').alt}));
    box.addEventListener('click', () => box.close());
    box.showModal();
  });
  const zoom = ({element, watch}) => {
    const newest = () => {  // scroll the newest column into view
      const box = element.querySelector('.scroll'), shown = element.querySelectorAll('tbody tr:first-child .zoom');
      const last = shown[shown.length - 1];
      if (last) box.scrollLeft += last.getBoundingClientRect().right + 16 - box.getBoundingClientRect().right;
    };
    newest();
    watch('value', newest);
    zoomable(element);
  };
  const pictures = part => { presses(part); zoomable(part.element); };

  const title = ({watch}) => watch('value', () => show());

  // Before and after: one picture over the other, a line between them.
  const compare = part => {
    presses(part);
    const {element, watch} = part;
    let mine = null;  // the choices made here, kept across redraws of the same training
    const show = event => {
      const box = element.querySelector('.compare');
      if (!box) return;
      const images = JSON.parse(box.dataset.images), of = images[0][0];
      const step = () => box.querySelector('[name=step]:checked'), prompt = box.querySelector('[name=prompt]'), line = box.querySelector('[type=range]');
      if (event) mine = {of, step: step().value, prompt: prompt.value, line: line.value};
      else if (mine && mine.of === of) {
        const again = box.querySelector(`[name=step][value="${mine.step}"]`);
        if (again) again.checked = true;
        [prompt.value, line.value] = [mine.prompt, mine.line];
      }
      box.querySelector('.before').src = images[0][prompt.value];
      box.querySelector('.after').src = images[step().value][prompt.value];
      box.style.setProperty('--at', line.value + '%');
      box.classList.toggle('is-kept', step().value === box.dataset.kept);
      box.querySelector('.choices > [data-do=keep]').dataset.step = step().value;
    };
    element.addEventListener('input', show);
    element.addEventListener('change', show);
    watch('value', () => show());
    show();
  };

  // The photos: a dialog with the pet's frame, the caption and the crops used in training.
  const photos = part => {
    presses(part);
    const {element, trigger, watch} = part;
    let demo = false;  // the demo button disappears when its photos come: move the focus to the first photo
    document.addEventListener('click', event => { if (event.target.closest('#demo')) demo = true; });
    watch('value', () => {
      const first = element.querySelector('.open');
      if (!demo || !first) return;
      demo = false;
      const now = document.activeElement;  // do not take the focus from another field
      if (now === document.body || now.closest('#demo')) first.focus({preventScroll: true});
    });
    element.addEventListener('click', event => {
      const opened = event.target.closest('[data-open]');
      if (!opened) return;
      const all = JSON.parse(element.querySelector('[data-photos]').dataset.photos);
      const words = JSON.parse(element.querySelector('[data-texts]').dataset.texts);
      photoDialog(opened, all, all.findIndex(photo => photo.file === opened.dataset.open), words, trigger);
    });
  };

  const photoDialog = (from, all, start, words, trigger) => {
    const box = dialog('photo', words.title, from);
    box.innerHTML = `<div class="photo-grid"><div class="picture"><img alt=""><div class="frame" tabindex="0" role="group"><i></i></div></div>
      <div class="photo-side"><h3></h3><ul class="findings"></ul>
      <h4 class="box-title"></h4><p class="hint box-about"></p><p class="presses box-row"></p>
      <label class="field"><span></span><textarea name="caption" rows="3" maxlength="400"></textarea></label><p class="hint caption-about"></p>
      <h4 class="crops-title"></h4><img class="crops" alt=""><p class="crop-words"><span></span><span></span><span></span></p><p class="hint crops-about"></p></div></div>
      <p class="presses photo-foot"></p>`;
    const find = selector => box.querySelector(selector);
    const image = find('.picture img'), frame = find('.frame'), caption = find('textarea');
    let at = start, edges = null, changed = false, seed = 0;
    find('.box-title').textContent = words.box;
    find('.box-about').textContent = words.box_about;
    find('.field span').textContent = words.caption;
    find('.crops-title').textContent = words.crops;
    find('.crops-about').textContent = words.crops_about;
    frame.setAttribute('aria-label', `${words.box} ${words.box_about}`);
    [words.much, words.middle, words.little].forEach((text, i) => { box.querySelectorAll('.crop-words span')[i].textContent = text; });

    const crops = () => {
      const asked = new URLSearchParams(words.crop);
      asked.set('seed', seed);
      if (edges) asked.set('box', edges.map(edge => edge.toFixed(4)).join(','));
      find('.crops').src = `/blockskip/crops/${encodeURIComponent(all[at].file)}?${asked}`;
      find('.crops').alt = `${words.crops}: ${words.much}, ${words.middle}, ${words.little}`;
    };
    const draw = () => {
      frame.hidden = !edges;
      if (edges) Object.assign(frame.style, {left: `${100 * edges[0]}%`, top: `${100 * edges[1]}%`,
        width: `${100 * (edges[2] - edges[0])}%`, height: `${100 * (edges[3] - edges[1])}%`});
    };
    const set = next => { edges = next; changed = true; draw(); crops(); };
    const save = () => {
      const photo = all[at];
      // what was not changed stays: meanwhile the pet may have been found, or the photo described
      const said = {do: 'photo', file: photo.file, box: edges, frame_kept: !changed};
      if (caption.value !== photo.caption) said.caption = caption.value;
      if (changed || 'caption' in said) {
        Object.assign(photo, {caption: caption.value, box: edges});
        trigger('click', said);
      }
    };
    const show = place => {
      at = (place + all.length) % all.length;
      const photo = all[at];
      edges = photo.box; changed = false; seed = 0;
      image.src = photo.large; image.alt = photo.name;
      find('h3').textContent = photo.name;
      caption.value = photo.caption;
      find('.caption-about').textContent = words.caption_about.replace('{automatic}', photo.automatic);
      const findings = find('.findings');
      findings.replaceChildren(...photo.findings.map(text => make('li', '', {textContent: text})));
      findings.hidden = !photo.findings.length;
      suggest.hidden = !photo.proposal;
      hold.hidden = photo.unseen === null;
      hold.textContent = photo.unseen ? words.train_on : words.hold_out;
      draw(); crops();
    };
    const suggest = button(words.propose, 'press', () => set(all[at].proposal));
    const hold = button('', 'press link', () => {
      const photo = all[at];
      save(); changed = false;
      photo.unseen = !photo.unseen;
      hold.textContent = photo.unseen ? words.train_on : words.hold_out;
      trigger('click', {do: 'hold_out', file: photo.file, value: photo.unseen ? '1' : ''});
    });
    find('.box-row').append(suggest, button(words.no_box, 'press link', () => set(null)));
    const foot = find('.photo-foot');
    if (all.length > 1) foot.append(button('‹ ' + words.previous, 'press', () => { save(); show(at - 1); }),
      button(words.next + ' ›', 'press', () => { save(); show(at + 1); }));
    foot.append(button(words.crops_again, 'press link', () => { seed += 1; crops(); }));
    foot.append(hold);
    if (words.can_describe) foot.append(button(words.describe, 'press link', () => { save(); trigger('click', {do: 'describe'}); }));
    foot.append(button(words.close, 'press primary', () => box.close()));

    // the mouse or a finger draws a frame, keys move it
    const where = event => {
      const area = image.getBoundingClientRect();
      return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height].map(x => Math.min(1, Math.max(0, x)));
    };
    const picture = find('.picture');
    picture.addEventListener('pointerdown', event => {
      event.preventDefault();
      picture.setPointerCapture(event.pointerId);
      const [x0, y0] = where(event), before = edges;
      const move = event => {
        const [x1, y1] = where(event);
        edges = [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
        draw();
      };
      const end = () => {
        picture.removeEventListener('pointermove', move);
        const drawn = edges && edges !== before && edges[2] - edges[0] > .03 && edges[3] - edges[1] > .03;
        if (drawn) set(edges); else { edges = before; draw(); }
      };
      picture.addEventListener('pointermove', move);
      picture.addEventListener('pointerup', end, {once: true});
    });
    frame.addEventListener('keydown', event => {
      const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
      if (!step || !edges) return;
      event.preventDefault();
      const [l, t, r, b] = edges, by = .02, [x, y] = step.map(s => s * by);
      if (event.shiftKey) set([l, t, Math.min(1, Math.max(l + .04, r + x)), Math.min(1, Math.max(t + .04, b + y))]);
      else {
        const dx = Math.max(-l, Math.min(1 - r, x)), dy = Math.max(-t, Math.min(1 - b, y));
        set([l + dx, t + dy, r + dx, b + dy]);
      }
    });
    box.addEventListener('close', save);
    show(start);
    box.showModal();
  };

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
  setInterval(() => {
    const words = document.querySelector('#behind p');
    if (words) words.hidden = !(pending() && Date.now() - Math.max(answeredAt, at) > patience.words);
    if (answeredAny() && place() && value('shown') !== viewNow()) follow();
  }, 1000);

  // Places. The address says what the tab shows (blockskip/studio/places.py); the hidden field `shown`, which the
  // server reads, follows it. What is drawn for another place is not shown. `moves` counts the ways taken.
  const NO_VIEW = '?', leaving = {}, scrolled = {};
  let moves = 0, linked = false, arriving = null, follow = () => {};
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
  const answer = () => { answeredAt = Date.now(); show(); unmark(); };
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
    follow();
  };
  const settleAt = hash => { history.replaceState(null, '', hash); was = location.hash; };
  addEventListener('popstate', moved);  // comes at once, but not in every browser for every way
  addEventListener('hashchange', moved);
  document.addEventListener('click', event => {
    const link = event.target.closest('a[href^="#/"]'), press = event.target.closest('#train, #again');
    if (press) {
      leaving[press.id] = moves;
      if (press.id === 'train') press.setAttribute('aria-busy', 'true');  // until `pressed`
    }
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;  // those open another tab
    linked = true;
    if (link.hash === location.hash) { arriveAt(0); linked = false; }
  }, true);
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

  const pressed = id => document.getElementById(id)?.removeAttribute('aria-busy');

  // Problems of fields, [[id, text], …] as JSON: shown at each of them until it is changed. The first gets the focus.
  let marks = [];
  const contents = {drop: () => document.querySelectorAll('#photos .tiles li').length, own: field => field.checked,
    models: () => document.querySelector('#models .chosen')?.textContent,
    budget: field => field.value + Boolean(document.querySelector('#plan .refused'))};
  const contentOf = ({id, field}) => String((contents[id] || (one => one?.value))(field));
  const unmark = (all = false) => {
    marks = marks.filter(one => {
      if (!all && one.content === contentOf(one)) return true;
      one.words.remove();
      one.field.removeAttribute('aria-invalid');
      one.field.removeAttribute('aria-describedby');
      return false;
    });
  };
  document.addEventListener('input', () => unmark());
  document.addEventListener('change', () => unmark());
  const mark = all => {
    unmark(true);
    for (const [id, text] of JSON.parse(all)) {
      const box = document.getElementById(id);
      const field = box?.querySelector('input:not([type=file], [type=range]), textarea') || box?.querySelector('button');
      if (!field) continue;
      const words = make('p', 'problem', {id: `problem-${id}`, textContent: text}), one = {id, field, words};
      id === 'drop' ? box.after(words) : box.append(words);
      if (field.tagName !== 'BUTTON') field.setAttribute('aria-invalid', 'true');
      field.setAttribute('aria-describedby', words.id);
      marks.push({...one, content: contentOf(one)});
    }
    const first = marks[0];
    if (!first) return;
    const fold = first.field.closest('#advanced');
    if (fold && !first.field.checkVisibility()) fold.querySelector('button').click();
    first.words.parentElement.scrollIntoView({block: 'center'});
    first.field.focus({preventScroll: true});
  };

  return {presses, keep, mark, pressed, nav, models, zoom, pictures, title, compare, photos, request, answer, settle, lead, patience};
})();
