// Many photos at once: dropped on the photo card, shown before they are uploaded, uploaded in small parts, and selected.
(() => {
  const {make, button, dialog} = blockskip;
  const LARGEST = 60 * 2 ** 20, PART = 6, SIDE = 264, AT_ONCE = 3;  // bytes of a file, photos in a part, pixels, pictures
  const captions = /\.(txt|caption|json|jsonl|csv)$/i, several = /\.(json|jsonl|csv)$/i;  // these name the photos they are for
  const films = /\.(mov|mp4|m4v|avi|mkv|webm|3gp|mpg|mpeg|wmv)$/i, hidden = /^(\.|Thumbs\.db$|desktop\.ini$|Icon\r$)/i;
  const stem = name => name.replace(/\.[^.]*$/, '').replace(/-(masklabel|condlabel)$/i, '').toLowerCase();
  const redrawn = [];  // called when the server's tiles were drawn
  const coming = () => document.querySelector('#coming');

  // Thumbnails, a few at a time: decoding is not done on the page's own thread, but takes 50 MB for 12 megapixels.
  const waiting = [];
  let decoding = 0;
  const decode = async () => {
    if (decoding >= AT_ONCE || !waiting.length) return;
    decoding += 1;
    const {file, tile} = waiting.shift();
    try {
      if (tile.isConnected) {
        const image = await createImageBitmap(file, {resizeWidth: SIDE, resizeQuality: 'medium'});
        const canvas = make('canvas', '', {width: image.width, height: image.height});
        canvas.getContext('bitmaprenderer').transferFromImageBitmap(image);
        tile.replaceChildren(canvas);
      }
    } catch { /* no picture that browsers know, such as HEIC: its name stays until the server has read it */ }
    decoding -= 1;
    decode();
  };

  // The files of a drop: those of a folder too, but not of folders in it.
  const filesOf = async items => {
    const entries = [...items].map(item => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
    const read = entry => new Promise(done => entry.file(done, () => done(null)));
    const inside = async folder => {
      const reader = folder.createReader(), all = [];
      for (;;) {
        const some = await new Promise(done => reader.readEntries(done, () => done([])));
        if (!some.length) return all;
        all.push(...some.filter(entry => entry.isFile));
      }
    };
    const found = [];
    for (const entry of entries) found.push(...(entry.isFile ? [entry] : await inside(entry)));
    return (await Promise.all(found.map(read))).filter(Boolean);
  };

  // Photos of one name, and their captions, stay together: which belongs to which is seen from what comes with it.
  const parts = files => {
    const groups = new Map();
    for (const file of files) {
      const key = stem(file.name);
      groups.set(key, [...(groups.get(key) || []), file]);
    }
    if (files.some(file => several.test(file.name))) return [files];
    const made = [];
    for (const group of groups.values()) {
      if (!made.length || made[made.length - 1].length >= PART) made.push([]);
      made[made.length - 1].push(...group);
    }
    return made;
  };

  blockskip.drop = ({element}) => {
    const zone = element.querySelector('.drop-zone'), input = zone.querySelector('input');
    const words = JSON.parse(zone.dataset.texts), card = element.closest('.card');
    const tiles = new Map();  // file → its tile, until the server shows the photo
    let queue = [], running = false, first = true, total = 0, done = 0, refused = [], problem = '', current = [], seen = new Set();

    const list = make('ul', 'tiles'), told = make('div', 'told');
    element.append(told);
    const tell = () => {
      if (!list.isConnected) coming().append(list);
      const text = words.adding.replace('{n}', done).replace('{total}', total), parts = [];
      if (refused.length) {
        const note = make('div', 'note warning'), items = make('ul', '');
        note.setAttribute('role', 'status');
        for (const [name, reason] of refused) {
          const item = make('li', '');
          item.append(make('b', '', {textContent: name}), `: ${reason}`);
          items.append(item);
        }
        note.append(make('b', '', {textContent: words.rejected}), items);
        parts.push(note);
      }
      if (problem) {
        const note = make('div', 'note error');
        note.setAttribute('role', 'alert');
        const row = make('p', 'presses');
        row.append(button(words.again, 'press primary', () => { problem = ''; pump(); }), button(words.stop, 'press link', stop));
        note.append(make('p', '', {textContent: problem}), row);
        parts.push(note);
      } else if (running) {
        const bar = make('progress', 'bar working', {max: total, value: done});
        bar.setAttribute('aria-label', text);
        const row = make('p', 'adding');
        row.append(make('span', 'hint', {textContent: text}), button(words.stop, 'press link', stop));
        parts.push(row, bar);
      }
      told.replaceChildren(...parts);
      card.classList.toggle('is-adding', list.children.length > 0);
    };
    const drop = file => { tiles.get(file)?.remove(); tiles.delete(file); };
    const stop = () => {
      for (const part of queue) part.files.forEach(drop);
      queue = [];
      problem = '';
      tell();
    };

    // The server's tiles of what is being read take the place of the tiles here.
    redrawn.push(() => {
      const shown = [...document.querySelectorAll('#photos [data-open]')];
      for (const tile of shown.filter(one => !seen.has(one.dataset.open))) {
        const own = current.find(file => tiles.has(file) && file.name === tile.dataset.name);
        if (!own) continue;
        const picture = tiles.get(own).querySelector('canvas');
        if (picture) tile.prepend(picture);  // until the server's is loaded
        drop(own);
      }
      seen = new Set(shown.map(one => one.dataset.open));
      current.filter(file => file.read && shown.length >= file.read).forEach(drop);  // left out, or shown
      tell();
    });

    const upload = async part => {
      if (part.paths) return;
      const form = new FormData();
      for (const file of part.files) form.append('files', file, file.name);
      const answer = await fetch('/gradio_api/upload', {method: 'POST', body: form});
      if (!answer.ok) throw new Error((await answer.text()).slice(0, 300) || words.failed);
      part.paths = await answer.json();
    };
    const hand = async part => {
      current.push(...part.files);
      const body = JSON.stringify({uploads: part.paths, first});
      const answer = await fetch('/blockskip/photos', {method: 'POST', body});
      part.paths = null;  // they are gone, whatever became of them
      const said = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(said.problem || words.failed);
      first = false;
      for (const file of part.files) {
        file.read = said.photos;  // of the draft by now
        if (!captions.test(file.name)) done += 1;
      }
      // shown with the server's next answer; a photo that was removed meanwhile never is
      setTimeout(() => { part.files.forEach(drop); current = current.filter(file => !part.files.includes(file)); tell(); }, 5000);
    };
    const sending = part => upload(part).then(() => null, error => error);
    const pump = async () => {
      if (running) return;
      running = true;
      tell();
      let ahead = queue.length && sending(queue[0]);
      while (queue.length && !problem) {
        const part = queue[0], error = await ahead;
        if (queue[0] !== part) { ahead = queue.length && sending(queue[0]); continue; }  // stopped meanwhile
        ahead = !error && queue.length > 1 && sending(queue[1]);  // uploaded while the server reads this one
        try {
          if (error) throw error;
          await hand(part);
          if (queue[0] === part) queue.shift();
        } catch (failed) {
          problem = failed instanceof TypeError ? words.failed : failed.message;
        }
        tell();
      }
      running = false;
      tell();
    };

    const take = files => {
      if (!running && !queue.length) [total, done, first, refused] = [0, 0, true, []];
      const stems = new Set(files.filter(file => !films.test(file.name)).map(file => stem(file.name))), good = [];
      for (const file of files) {
        const film = file.type.startsWith('video/') || films.test(file.name);
        if (hidden.test(file.name) || (film && stems.has(stem(file.name)))) continue;  // of a live photo
        if (film) refused.push([file.name, words.film]);
        else if (file.size > LARGEST) refused.push([file.name, words.large]);
        else good.push(file);
      }
      good.sort((a, b) => a.name.localeCompare(b.name, undefined, {numeric: true}));
      for (const file of good.filter(one => !captions.test(one.name))) {
        const tile = make('li', 'soon', {title: file.name});
        tile.append(make('span', '', {textContent: file.name}));
        list.append(tile);
        tiles.set(file, tile);
        waiting.push({file, tile});
        total += 1;
      }
      queue.push(...parts(good).map(part => ({files: part})));
      tell();
      for (let i = 0; i < AT_ONCE; i++) decode();
      pump();
    };

    input.addEventListener('change', () => { take([...input.files]); input.value = ''; });
    // Files dropped beside the card would replace the page.
    const carries = event => event.dataTransfer && [...event.dataTransfer.types].includes('Files');
    const mark = event => {
      if (!carries(event)) return;
      event.preventDefault();
      const inside = card.contains(event.target);
      card.classList.toggle('is-over', inside);
      event.dataTransfer.dropEffect = inside ? 'copy' : 'none';
    };
    document.addEventListener('dragover', mark);
    document.addEventListener('dragleave', event => { if (!event.relatedTarget) card.classList.remove('is-over'); });
    document.addEventListener('drop', async event => {
      if (!carries(event)) return;
      event.preventDefault();
      card.classList.remove('is-over');
      const {files, items} = event.dataTransfer, plain = [...files];
      if (!card.contains(event.target)) return;
      const folders = [...items].some(item => item.webkitGetAsEntry && item.webkitGetAsEntry()?.isDirectory);
      take(folders ? await filesOf(items) : plain);
    });
    addEventListener('beforeunload', event => { if (queue.length) event.preventDefault(); });
  };

  // Selecting several photos: a click on a tile selects it instead of opening it.
  const selection = ({element, trigger, watch}) => {
    const chosen = new Set();
    let on = false, from = '';
    const all = () => [...element.querySelectorAll('.tiles [data-open]')].map(one => one.dataset.open);
    const draw = () => {
      const there = new Set(all());
      for (const file of [...chosen]) if (!there.has(file)) chosen.delete(file);
      if (!there.size) on = false;
      element.classList.toggle('is-selecting', on);
      for (const tile of element.querySelectorAll('.tiles [data-open]')) {
        if (on) tile.setAttribute('aria-pressed', chosen.has(tile.dataset.open));
        else tile.removeAttribute('aria-pressed');
      }
      const bar = element.querySelector('.select-bar');
      if (!bar) return;
      const words = JSON.parse(bar.dataset.texts);
      bar.querySelector('[role=status]').textContent = !on ? '' :
        chosen.size === 1 ? words.chosen_one : words.chosen.replace('{count}', chosen.size);
      for (const one of bar.querySelectorAll('[data-select=caption], [data-select=set_aside], [data-select=remove]')) one.disabled = !chosen.size;
    };
    const pick = (file, shift) => {
      const files = all(), [a, b] = [files.indexOf(from), files.indexOf(file)];
      if (shift && a >= 0) files.slice(Math.min(a, b), Math.max(a, b) + 1).forEach(one => chosen.add(one));
      else if (!chosen.delete(file)) chosen.add(file);
      from = file;
      draw();
    };
    const send = data => { trigger('click', {files: [...chosen], ...data}); chosen.clear(); draw(); };
    const caption = opener => {
      const words = JSON.parse(element.querySelector('.select-bar').dataset.texts);
      const title = words.caption.replace('{count}', chosen.size), box = dialog('ask', title, opener);
      const field = make('textarea', '', {rows: 3, maxLength: 400}), row = make('p', 'presses');
      field.setAttribute('aria-label', title);
      const written = new Map(JSON.parse(element.querySelector('[data-photos]').dataset.photos).map(one => [one.file, one.caption]));
      const taken = [...chosen].some(file => written.get(file)), save = value => { const text = field.value; box.close(); send({do: 'caption', caption: text, value}); };
      row.append(button(taken ? words.caption_empty : opener.textContent, 'press primary', () => save('')));
      if (taken) row.append(button(words.caption_all, 'press', () => save('all')));
      row.append(button('✕', 'press', () => box.close()));
      row.lastChild.setAttribute('aria-label', document.querySelector('.nav').dataset.cancel);
      box.append(make('p', '', {textContent: title}), make('p', 'hint', {textContent: words.caption_about}), field, row);
      box.showModal();
    };
    const remove = opener => {
      const box = dialog('ask', opener.dataset.question, opener), row = make('p', 'presses');
      row.append(button(opener.textContent, 'press danger', () => { box.close(); send({do: 'remove'}); }), button('✕', 'press', () => box.close()));
      row.lastChild.setAttribute('aria-label', document.querySelector('.nav').dataset.cancel);
      box.append(make('p', '', {textContent: opener.dataset.question}), row);
      box.showModal();
      row.lastChild.focus();
    };
    const actions = {
      start: () => { on = true; },
      done: () => { on = false; chosen.clear(); },
      all: () => { const files = all(); if (files.every(file => chosen.has(file))) chosen.clear(); else files.forEach(file => chosen.add(file)); },
      set_aside: () => send({do: 'set_aside'}),
      remove, caption,
    };
    element.addEventListener('click', event => {
      const pressed = event.target.closest('[data-select]'), tile = event.target.closest('[data-open]');
      if (pressed) { actions[pressed.dataset.select](pressed); draw(); }
      else if (on && tile) pick(tile.dataset.open, event.shiftKey);
      else return;
      event.stopPropagation();
    }, true);
    element.addEventListener('keydown', event => { if (on && event.key === 'Escape') { actions.done(); draw(); } });
    watch('value', draw);
  };
  const {photos} = blockskip;
  blockskip.photos = part => {
    photos(part);
    selection(part);
    part.watch('value', () => redrawn.forEach(look => look()));
  };
})();
