(() => {
  // Filters the rows of the atlas by words, family, year and number of parameters; a card without rows is hidden.
  const form = document.querySelector('.atlas-filter');
  const status = form.querySelector('[role=status]');
  let families = [];

  function read() {
    families = Array.from(document.querySelectorAll('.atlas-family'), section => ({
      section,
      family: section.id.replace('family-', ''),
      plates: Array.from(section.querySelectorAll('.atlas-plate'), plate => ({
        plate,
        text: Array.from([section.querySelector('h2'), ...plate.querySelectorAll(':scope > p')],
          part => part.textContent).join(' '),
        rows: Array.from(plate.querySelector('table').tBodies[0].rows, row => ({
          row,
          text: row.textContent,
          year: plate.querySelector(':scope > .atlas-paper').textContent.match(/\d{4}/)[0],
          parameters: Number(row.cells[1].textContent.replace(/\D/g, '')),
        })),
      })),
    }));
  }

  function apply() {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.words.toLowerCase().split(/\s+/).filter(Boolean);
    const [from, to] = wanted.size ? wanted.size.split('-').map(million => Number(million || Infinity) * 1e6) : [0, Infinity];
    let networks = 0, all = 0, cards = 0;
    for (const { section, family, plates } of families) {
      section.hidden = true;
      for (const { plate, text, rows } of plates) {
        plate.hidden = true;
        for (const { row, text: own, year, parameters } of rows) {
          const said = `${text} ${own}`.toLowerCase();
          const fits = words.every(word => said.includes(word)) && (!wanted.family || wanted.family === family)
            && (!wanted.year || wanted.year === year) && parameters > from && parameters <= to;
          row.hidden = !fits;
          all += 1;
          networks += fits;
          if (fits) plate.hidden = section.hidden = false;
        }
        cards += !plate.hidden;
      }
    }
    status.textContent = `${networks} of ${all} networks, on ${cards} ${cards === 1 ? 'card' : 'cards'}.`;
  }

  // An address may lead to a card that the filter hides.
  function find() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target && target.closest('[hidden]')) {
      form.reset();
      setTimeout(() => target.scrollIntoView());
    }
  }

  function start() {
    read();
    form.hidden = false;
    apply();
    form.addEventListener('input', apply);
    form.addEventListener('submit', event => event.preventDefault());
    form.addEventListener('reset', () => setTimeout(apply));
    addEventListener('hashchange', find);
  }

  addEventListener('DOMContentLoaded', start);
})();
