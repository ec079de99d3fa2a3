document.querySelectorAll("figure.cnn-complexity:not([data-live])").forEach((root) => {
  root.dataset.live = ""; // the same cell may be shown twice, and each copy brings this script
  const find = (query) => root.querySelector(query);
  const all = (query) => [...root.querySelectorAll(query)];
  const data = JSON.parse(find("script[type='application/json']").textContent);
  const [years, networks] = all("[type=range]");
  const chosen = (name) => find(`[data-${name}][aria-pressed=true]`).dataset[name];
  const marks = all(".marks > g"), TOP = 14, BOTTOM = 430;
  const middle = (mark) => mark.getAttribute("transform").match(/\d+/g).map(Number);

  function say(slider, text) {
    slider.setAttribute("aria-valuetext", text);
    slider.closest("label").querySelector("b").textContent = text;
  }

  function place(text, number, x, y) {
    const [across, down] = data.places[number];
    text.setAttribute("x", x + across);
    text.setAttribute("y", y + down);
    text.classList.toggle("end", across < 0);
    text.classList.toggle("mid", across === 0);
  }

  function update() {
    const cost = chosen("cost"), family = chosen("family");
    const year = data.years[years.value], here = +networks.value;
    say(years, year);
    say(networks, data.nets[here].label);
    find(".cost").textContent = data.costs[cost];
    find(".frontier").setAttribute("d", data.lines[cost][year]);
    find(".ticks").innerHTML = data.ticks[cost].map(([x, label]) =>
      `<path class="grid" d="M${x} ${TOP}V${BOTTOM}"/><text class="mid" x="${x}" y="${BOTTOM + 26}">${label}</text>`).join("");
    marks.forEach((mark, i) => {
      mark.setAttribute("transform", `translate(${data.x[cost][i]} ${middle(mark)[1]})`);
      if (i in data.fixed[cost]) place(mark.querySelector("text"), data.fixed[cost][i], 0, 0);
      mark.classList.toggle("late", data.nets[i].year > year);
      mark.classList.toggle("here", i === here);
      mark.classList.toggle("met", data.nets[here].year <= year && data.hidden[cost][here].includes(i));
      mark.classList.toggle("other", family !== "" && data.nets[i].family !== family && i !== here);
    });
    const name = find(".name");
    name.textContent = data.nets[here].label;
    name.classList.toggle("late", data.nets[here].year > year);
    place(name, data.chosen[cost][here], ...middle(marks[here]));
    const facts = { ...data.nets[here], verdict: data.verdicts[cost][year][here] };
    const text = data.words.replace(/\{(\w+)\}/g, (_, name) => facts[name]);
    if (find("figcaption").textContent !== text) find("figcaption").textContent = text;
  }

  ["cost", "family"].forEach((name) => all(`[data-${name}]`).forEach((button) => button.addEventListener("click", () => {
    all(`[data-${name}]`).forEach((other) => other.setAttribute("aria-pressed", other === button));
    update();
  })));
  [years, networks].forEach((slider) => slider.addEventListener("input", update));

  find("svg").addEventListener("click", (event) => { // the nearest mark that is shown
    const box = find("svg").getBoundingClientRect(), scale = 720 / box.width;
    const at = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const distances = marks.map((mark) => {
      if (mark.classList.contains("late")) return Infinity;
      const [x, y] = middle(mark);
      return Math.hypot(x - at[0], y - at[1]);
    });
    const nearest = Math.min(...distances);
    if (nearest > 40 * Math.max(1, scale)) return;
    networks.value = distances.indexOf(nearest);
    update();
  });
  update();
});
