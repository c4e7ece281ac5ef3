/** The search, the menu of small windows, and buttons that copy. A plain script, so that pages work from a disk. */
(() => {
  const { up } = document.currentScript.dataset;
  const query = document.getElementById('query');
  const found = document.getElementById('found');
  const menu = document.getElementById('menu');
  let search;
  let loading;
  let selected = -1;

  /** The index, which is loaded when it is first needed: a script, because pages from a disk may read nothing else. */
  const load = () => {
    loading ??= new Promise((resolve, reject) => {
      const script = document.createElement('script');
      script.src = `${up}search.js`;
      script.onload = () => {
        const fields = { fields: ['title', 'heading', 'text'], storeFields: ['title', 'heading', 'url', 'start'] };
        search = window.MiniSearch.loadJSON(window.momeSearch, fields);
        resolve();
      };
      script.onerror = () => reject(new Error('search.js is missing'));
      document.head.append(script);
    });
    return loading;
  };

  const show = (open) => {
    found.hidden = !open;
    query.setAttribute('aria-expanded', String(open));
  };

  const select = (index) => {
    const items = [...found.querySelectorAll('[role=option]')];
    selected = items.length === 0 ? -1 : (index + items.length) % items.length;
    for (const [i, item] of items.entries()) item.setAttribute('aria-selected', String(i === selected));
    items[selected]?.scrollIntoView({ block: 'nearest' });
    if (selected >= 0) query.setAttribute('aria-activedescendant', items[selected].id);
    else query.removeAttribute('aria-activedescendant');
  };

  const update = async () => {
    const text = query.value.trim();
    if (text === '') return show(false);
    await load();
    if (text !== query.value.trim()) return undefined;
    const boost = { title: 3, heading: 4 };
    // Written pages come before those of single declarations, and what is true now before what has changed.
    const boostDocument = (_id, _term, { url }) => (/^(reference|changelog)/.test(url) ? 0.2 : 1);
    const options = { prefix: true, fuzzy: 0.15, boost, boostDocument };
    let results = search.search(text, { ...options, combineWith: 'AND' });
    if (results.length === 0) results = search.search(text, options);
    found.replaceChildren(
      ...results.slice(0, 12).map(({ title, heading, url, start }, i) => {
        const item = document.createElement('li');
        item.id = `found-${i}`;
        item.setAttribute('role', 'option');
        const link = document.createElement('a');
        link.href = up + url;
        link.tabIndex = -1;
        link.append(heading && heading !== title ? `${title}: ${heading}` : title);
        const small = document.createElement('small');
        small.textContent = start;
        link.append(small);
        item.append(link);
        return item;
      }),
    );
    if (results.length === 0) {
      const item = document.createElement('li');
      const words = document.createElement('p');
      words.textContent = 'Nothing found';
      item.append(words);
      found.append(item);
    }
    show(true);
    select(0);
    return undefined;
  };

  query.addEventListener('focus', load, { once: true });
  query.addEventListener('input', update);
  query.addEventListener('keydown', (event) => {
    if (event.key === 'ArrowDown') select(selected + 1);
    else if (event.key === 'ArrowUp') select(selected - 1);
    else if (event.key === 'Enter') found.querySelectorAll('[role=option] a')[selected]?.click();
    else if (event.key === 'Escape') {
      show(false);
      query.value = '';
    } else return;
    event.preventDefault();
  });
  found.addEventListener('click', () => show(false));
  document.addEventListener('keydown', (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? '');
    if (event.key !== '/' || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    query.focus();
  });
  document.addEventListener('click', (event) => {
    if (!event.target.closest('search')) show(false);
  });
  menu.addEventListener('click', () => {
    const open = document.getElementById('pages').classList.toggle('open');
    menu.setAttribute('aria-expanded', String(open));
  });
  for (const block of document.querySelectorAll('pre')) {
    block.tabIndex = 0;
    if (!navigator.clipboard) continue;
    const button = document.createElement('button');
    button.className = 'copy';
    button.type = 'button';
    button.textContent = 'Copy';
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(block.querySelector('code').textContent);
      button.textContent = 'Copied';
    });
    block.prepend(button);
  }
})();
