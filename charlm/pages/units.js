// The text in the colours of one unit, and the choice of another one.
const {panels} = JSON.parse(document.getElementById("values").textContent);
const kind = document.getElementById("kind"), number = document.getElementById("number");
const about = document.getElementById("value"), kinds = panels[0].kinds;
const missing = document.getElementById("missing");
let shown = [0, kinds[0].units[0]];

// The bytes of each kind of value: one row of the text's tokens for each unit.
const shades = panels.map(panel => panel.kinds.map(({shades}) =>
  Int8Array.from(atob(shades), char => char.charCodeAt(0))));

const texts = panels.map((panel, k) => {
  const paragraph = document.getElementById("text" + k), characters = [...panel.text];
  const tokens = [];
  let done = 0;
  for (const [start, end] of panel.tokens) {
    paragraph.append(characters.slice(done, Math.max(start, done)).join(""));
    const token = document.createElement("span");
    token.textContent = characters.slice(Math.max(start, done), end).join("");
    paragraph.append(token);
    tokens.push(token);
    done = Math.max(end, done);
  }
  paragraph.append(characters.slice(done).join(""));
  return tokens;
});

// The value of a unit at a token of a text, and its shade from -1 to 1.
function value(k, token, column) {
  const {scales, gate} = panels[k].kinds[kind.value];
  const shade = shades[k][kind.value][column * texts[k].length + token] / 127;
  return [gate ? (shade + 1) / 2 : shade * scales[column], shade];
}

function paint() {
  const {units, scales, gate, name} = kinds[kind.value];
  const column = units.indexOf(+number.value);
  if (column < 0) return;
  texts.forEach((tokens, k) => tokens.forEach((token, t) => {
    const [, shade] = value(k, t, panels[k].kinds[kind.value].units.indexOf(+number.value));
    const strength = Math.round(80 * Math.abs(shade)), colour = shade < 0 ? "--low" : "--high";
    token.style.background =
      `color-mix(in srgb, var(${colour}) ${strength}%, transparent)`;
  }));
  const most = scales[column].toFixed(scales[column] > 1 ? 1 : 0);
  document.getElementById("least").textContent = gate ? "0" : "−" + most;
  document.getElementById("most").textContent = gate ? "1" : most;
  for (const button of document.querySelectorAll("button[data-unit]"))
    button.setAttribute("aria-pressed", button.dataset.unit === name + number.value);
  document.getElementById("shown").textContent =
    `${name}${number.value}: ${kinds[kind.value].label} of unit ${number.value}`;
  missing.textContent = about.textContent = "";
  shown = [kind.value, number.value];
}

function choose(k, unit) {
  kind.value = k;
  number.value = unit;
  paint();
}

// The next unit that the page has, or the one before.
function step(way) {
  const {units} = kinds[kind.value], at = units.indexOf(+number.value);
  choose(kind.value, units[(at + way + units.length) % units.length]);
}

document.addEventListener("click", event => {
  const unit = event.target.dataset.unit, way = event.target.dataset.step;
  if (way) step(+way);
  if (!unit) return;
  const k = kinds.findIndex(({name}) => unit.startsWith(name));
  choose(k, +unit.slice(kinds[k].name.length));
});
// A unit that the page does not have is refused: the last one stays.
for (const field of [kind, number])
  field.addEventListener("change", () => {
    const {units, name} = kinds[kind.value], asked = name + number.value;
    if (units.includes(+number.value)) return choose(kind.value, +number.value);
    choose(...shown);
    missing.textContent = `${asked} is not on this page: ` +
      `${kinds.reduce((sum, {units}) => sum + units.length, 0)} of ${panels[0].of} are; ` +
      `--unit ${asked} puts it there`;
  });

// The value at a token, in words.
let pointed = null;
function tell(k, token) {
  if (token < 0 || token >= texts[k].length) return;
  if (pointed) pointed.classList.remove("pointed");
  pointed = texts[k][token];
  pointed.classList.add("pointed");
  const column = panels[k].kinds[kind.value].units.indexOf(+number.value);
  about.textContent = `${JSON.stringify(pointed.textContent)}: ` +
    value(k, token, column)[0].toFixed(2);
}
document.addEventListener("mouseover", event =>
  texts.forEach((tokens, k) => tell(k, tokens.indexOf(event.target))));
document.addEventListener("keydown", event => {
  if (event.target.matches("input, select") || event.ctrlKey || event.altKey || event.metaKey)
    return;
  const way = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (!way) return;
  event.preventDefault();
  const k = event.target.matches(".text") ? +event.target.id.slice(4) : -1;
  if (k < 0) step(way);
  else tell(k, pointed ? Math.max(texts[k].indexOf(pointed) + way, 0) : 0);
});

const first = document.querySelector("button[data-unit]");
if (first) first.click();
else choose(0, kinds[0].units[0]);
