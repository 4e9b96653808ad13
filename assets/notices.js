// What the page tells: a press that waits, problems at their fields, notifications of trainings that end.
(() => {
  const {make} = blockskip;

  // A press on Train that waits for its answer says so.
  document.addEventListener('click', event => {
    const train = event.target.closest('#train');
    if (!train) return;
    train.dataset.waits = document.querySelector('.nav').dataset.waits;
    train.setAttribute('aria-busy', 'true');
  }, true);
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
      const field = box?.querySelector('.drop-zone input, input:not([type=file], [type=range]), textarea') || box?.querySelector('button');
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

  // Notifications of trainings that end, and their sound: off until they are switched on, in each browser.
  const remembered = name => { try { return localStorage[`blockskip-${name}`] || ''; } catch { return ''; } };
  const remember = (name, text) => { try { localStorage[`blockskip-${name}`] = text; } catch { /* a private window */ } };
  const mayTell = () => 'Notification' in window && Notification.permission === 'granted';
  const tells = () => remembered('tell') === '1' && mayTell();
  const chime = () => {
    const audio = new AudioContext();
    [[660, 0], [880, .18]].forEach(([pitch, after]) => {
      const tone = audio.createOscillator(), volume = audio.createGain(), begin = audio.currentTime + after;
      tone.frequency.value = pitch;
      volume.gain.setValueAtTime(.15, begin);
      volume.gain.exponentialRampToValueAtTime(.001, begin + .5);
      tone.connect(volume).connect(audio.destination);
      tone.start(begin);
      tone.stop(begin + .5);
    });
    setTimeout(() => audio.close(), 1500);
  };
  const notify = ([id, run, words]) => {
    if (!tells() || remembered('told') === id) return;  // perhaps another tab told it
    remember('told', id);
    if (remembered('sound') === '1') chime();
    try {
      const shown = new Notification(words, {tag: id, body: document.querySelector('#brand h1').textContent});
      shown.onclick = () => { window.focus(); location.hash = blockskip.addressOf(run); shown.close(); };
    } catch { /* some phones show none of a page */ }
  };
  const news = ({element, watch}) => {
    let known = null;  // what had ended before this tab was opened is not told
    watch('value', () => {
      const all = JSON.parse(element.querySelector('[data-news]').dataset.news);
      if (known) all.filter(([id]) => !known.has(id)).forEach(notify);
      known = new Set([...known || [], ...all.map(([id]) => id)]);
    });
  };
  const tellSwitch = ({element}) => {
    const box = element.querySelector('.tell'), words = JSON.parse(box.dataset.texts), hint = box.querySelector('.hint');
    const [one, sound] = box.querySelectorAll('button');
    const draw = (problem = '') => {
      one.textContent = tells() ? words.off : words.on;
      sound.textContent = remembered('sound') === '1' ? words.sound_off : words.sound_on;
      one.setAttribute('aria-pressed', tells());
      sound.setAttribute('aria-pressed', remembered('sound') === '1');
      sound.hidden = !tells();
      hint.textContent = problem || (tells() ? words.about : '');
    };
    one.addEventListener('click', async () => {
      if (tells()) { remember('tell', ''); return draw(); }
      if (!('Notification' in window)) return draw(words.missing);
      await Notification.requestPermission();
      remember('tell', '1');
      draw(mayTell() ? '' : words.denied);
    });
    sound.addEventListener('click', () => {
      remember('sound', remembered('sound') === '1' ? '' : '1');
      if (remembered('sound')) chime();
      draw();
    });
    draw();
  };

  Object.assign(blockskip, {mark, unmark, pressed, news, tellSwitch});
})();
