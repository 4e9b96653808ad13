// The page's own behaviour: clicks, dialogs, the line between before and after. All text comes from the
// server (blockskip/studio/strings). Each function below gets one drawn part of the page. places.js and notices.js add more.
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
      if (['again', 'delete'].includes(all.do)) blockskip.leaves('part');
      trigger('click', all);
    };
    if (said.confirm) ask(pressed, said.confirm, undefined, () => send(said));
    else if (said.ask) ask(pressed, said.ask, said.value, value => send({...said, value}));
    else send(said);
  });

  // Returning to this tab loads answers given in another one. The view follows the address.
  const nav = part => {
    presses(part);
    blockskip.follow = view => part.trigger('click', {do: {'': 'new', '*': 'list'}[view] ?? 'open'});
    part.watch('value', () => blockskip.tell());
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
    const name = small.querySelector('img').alt, save = make('a', 'press', {href: small.dataset.large, textContent: document.querySelector('.nav').dataset.save});
    save.download = name.replace(/[^\p{L}\p{N} ,-]/gu, '').slice(0, 80);
    box.append(make('img', '', {src: small.dataset.large, alt: name}), make('p', '', {textContent: name}), save);
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
  const pictures = part => {
    presses(part);
    zoomable(part.element);
    part.element.addEventListener('click', event => {  // a prompt to press
      const preset = event.target.closest('[data-prompt]'), field = document.querySelector('#prompt :is(textarea, input)');
      if (!preset || !field) return;
      field.value = preset.dataset.prompt;
      field.dispatchEvent(new Event('input', {bubbles: true}));
      field.focus();
    });
  };

  // Share the picture that the link beside the button saves; where that is not possible, copy it.
  document.addEventListener('click', async event => {
    const pressed = event.target.closest('[data-share]');
    if (!pressed) return;
    const link = pressed.parentElement.querySelector('a[href]'), load = async () => (await fetch(link.href)).blob();
    const touch = matchMedia('(pointer: coarse)').matches && navigator.canShare;
    try {
      if (touch) {
        const files = [new File([await load()], 'blockskip.png', {type: 'image/png'})];
        if (navigator.canShare({files})) { await navigator.share({files}); return; }
      }
      await navigator.clipboard.write([new ClipboardItem({'image/png': load()})]);
      pressed.textContent = pressed.dataset.share;
    } catch (error) {
      if (error.name !== 'AbortError') link.click();  // saved instead
    }
  });

  const title = ({watch}) => watch('value', () => blockskip.show());

  // Before and after: one picture over the other, a line between them.
  const compare = part => {
    presses(part);
    const {element, watch} = part;
    let choosing = 0, mine = null;  // the choices made here, kept across redraws of the same training
    const show = event => {
      const box = element.querySelector('.compare');
      if (!box) return;
      const images = JSON.parse(box.dataset.images), of = images[0][0];
      const step = () => box.querySelector('[name=step]:checked'), prompt = box.querySelector('[name=prompt]'), line = box.querySelector('[type=range]');
      if (mine && mine.kept !== box.dataset.kept) mine = {...mine, kept: box.dataset.kept, step: box.dataset.kept};
      if (event) mine = {of, kept: box.dataset.kept, step: step().value, prompt: prompt.value, line: line.value};
      else if (mine && mine.of === of) {
        const again = box.querySelector(`[name=step][value="${mine.step}"]`);
        if (again) again.checked = true;
        [prompt.value, line.value] = [mine.prompt, mine.line];
      }
      box.querySelector('.before').src = images[0][prompt.value];
      box.querySelector('.after').src = images[step().value][prompt.value];
      box.style.setProperty('--at', line.value + '%');
      box.classList.toggle('is-kept', step().value === box.dataset.kept);
      const asked = new URLSearchParams({kind: 'pair', step: step().value, prompt: JSON.parse(box.dataset.prompts)[prompt.value]});
      const link = box.querySelector('.sheet a');
      link.href = `${link.href.split('?')[0]}?${asked}`;
      // the step that is chosen is the one that is downloaded: until the server has it, nothing is
      const file = document.getElementById('lora'), is_kept = step().value === box.dataset.kept;
      if (file) file.inert = !is_kept;
      if (!event || event.type !== 'change' || event.target.name !== 'step') return;
      clearTimeout(choosing);  // arrow keys pass over steps, whose files need not be written
      const chosen = step().value;
      choosing = setTimeout(() => { if (box.dataset.kept !== chosen || is_kept) part.trigger('click', {do: 'keep', step: chosen}); }, 400);
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

  return {make, button, dialog, presses, keep, nav, models, zoom, pictures, title, compare, photos};
})();
