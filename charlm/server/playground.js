// The playground: every panel sends its form to a path of the server and shows the answer.
{
  const $ = selector => document.querySelector(selector);
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  // The panels for models of each task; those of other tasks predict.
  const PANELS = {lm: ["write", "score", "compare", "fill", "units"], fill: ["fill", "units"]};
  const OTHERS = ["predict", "units"], OF_TREES = ["predict"];
  const RANKED = ["classify", "seq2seq"];  // tasks whose models give several answers
  let models = {};

  // --- requests ---

  function problem(text) {
    $("#problem").textContent = text;
    $("#problem").hidden = !text;
  }

  async function ask(path, body, signal) {
    const key = sessionStorage.getItem("key");
    const headers = {"Content-Type": "application/json"};
    if (key) headers.Authorization = "Bearer " + key;
    const method = body ? "POST" : "GET";
    let answer;
    try {
      answer = await fetch(path, {method, headers, signal, body: body && JSON.stringify(body)});
    } catch (error) {
      throw error.name === "AbortError" ? error : new Error("the server does not answer");
    }
    if (answer.ok) return answer;
    if (answer.status === 401) {
      $("#key-row").hidden = false;
      $("#key").focus();
    }
    const text = await answer.text();
    let message = text;
    try { message = JSON.parse(text).error.message; } catch { /* no object of the protocol */ }
    throw new Error(message);
  }

  // --- models and panels ---

  const model = () => $("#model").value;

  async function load() {
    const list = (await (await ask("v1/models")).json()).data;
    models = Object.fromEntries(list.map(entry => [entry.id, entry]));
    $("#model").replaceChildren(...list.map(entry => make("option", {textContent: entry.id})));
    $("#key-row").hidden = true;
    choose();
  }

  function choose() {
    const {task, purpose} = models[model()];
    $("#purpose").textContent = `task ${task}: it ${purpose}`;
    const panels = task === "tree" ? OF_TREES : PANELS[task] ?? OTHERS;
    $("#answers").hidden = !RANKED.includes(task);
    if (!RANKED.includes(task)) $("#answers input").value = 1;
    for (const tab of document.querySelectorAll("[role=tab]"))
      tab.hidden = !panels.includes(tab.dataset.panel);
    const shown = location.hash.slice(1);
    show(panels.includes(shown) ? shown : panels[0]);
    clear();
  }

  function show(name) {
    for (const tab of document.querySelectorAll("[role=tab]")) {
      const isShown = tab.dataset.panel === name;
      tab.setAttribute("aria-selected", isShown);
      tab.tabIndex = isShown ? 0 : -1;
      $("#" + tab.dataset.panel).hidden = !isShown;
    }
    history.replaceState(null, "", "#" + name);
    problem("");
    closeMenu();
  }

  $("nav").addEventListener("click", event => {
    if (event.target.dataset.panel) show(event.target.dataset.panel);
  });
  $("nav").addEventListener("keydown", event => {
    const tabs = [...document.querySelectorAll("[role=tab]:not([hidden])")];
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
    show(next.dataset.panel);
    next.focus();
  });
  $("#model").addEventListener("change", choose);
  $("#key-row").addEventListener("submit", event => {
    event.preventDefault();
    sessionStorage.setItem("key", $("#key").value);
    problem("");
    load().catch(error => problem(error.message));
  });

  // A form is sent by its button, by Enter in a line, and by Ctrl+Enter in a text.
  function onSend(panel, send) {
    const form = $(`#${panel} form`);
    form.addEventListener("submit", async event => {
      event.preventDefault();
      const button = form.querySelector(".main");
      if (button.disabled) return;
      problem("");
      $(`#${panel} .answer`)?.replaceChildren();
      button.disabled = true;
      button.setAttribute("aria-busy", true);
      try {
        await send(form.elements, $(`#${panel} .answer`));
      } catch (error) {
        if (error.name !== "AbortError") problem(error.message);
      }
      button.disabled = false;
      button.setAttribute("aria-busy", false);
    });
    form.addEventListener("keydown", event => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
  }

  const linesOf = field => {
    const lines = field.value.split("\n").filter(line => line.trim());
    if (!lines.length) throw new Error("there is no text; write one first");
    return lines;
  };

  // --- write ---

  // The text on the page: its beginning, and the tokens after it. Earlier ones can come back.
  let text = {prompt: "", tokens: []};
  let past = [];
  let writing = null;  // what stops it
  const written = $("#written .text");
  const fields = $("#write form").elements;
  const wholeText = () => text.prompt + text.tokens.map(token => token.text).join("");

  function tokenElement(token) {
    const data = [token.name, token.bits.toFixed(4), "", "", ...token.likeliest.flat()]
      .map(field => field.replaceAll("\t", " "));
    const element = make("b", {textContent: token.text, tabIndex: -1});
    element.style.setProperty("--s", Math.min(token.bits / 10, 1).toFixed(2));
    element.dataset.t = data.join("\t");
    return element;
  }

  function draw() {
    const tokens = text.tokens.map(tokenElement);
    if (tokens.length) tokens[0].tabIndex = 0;
    written.replaceChildren(make("i", {textContent: text.prompt}), ...tokens);
    buttons();
  }

  function buttons() {
    const button = name => $(`#write [data-do=${name}]`);
    button("stop").disabled = !writing;
    button("undo").disabled = !!writing || !past.length;
    button("copy").disabled = !text.tokens.length;
  }

  function clear() {
    writing?.abort();
    text = {prompt: "", tokens: []};
    past = [];
    draw();
    for (const answer of document.querySelectorAll(".answer")) answer.replaceChildren();
  }

  function addPiece({text: piece, logprobs}) {
    const {tokens: names, token_logprobs: logs, top_logprobs: tops, text_offset: offsets} = logprobs;
    names.forEach((name, k) => {
      const likeliest = Object.entries(tops[k]).sort((a, b) => b[1] - a[1])
        .map(([other, log]) => [other, Math.exp(log).toPrecision(3)]);
      text.tokens.push({name, text: "", bits: -logs[k] / Math.LN2, likeliest, start: offsets[k]});
    });
  }

  async function write() {
    writing = new AbortController();
    buttons();
    const start = text.tokens.length, before = wholeText();
    const body = [];  // the characters that this request has written so far
    const asked = {
      model: model(), prompt: before, stream: true, logprobs: 5,
      temperature: +fields.temperature.value, top_p: +fields.top_p.value,
      max_tokens: +fields.max_tokens.value, stop: fields.stop.value || null,
      seed: fields.seed.value === "" ? null : +fields.seed.value,
    };
    // The text of a token goes on to the start of the next one.
    const share = () => text.tokens.slice(start).forEach((token, k, all) => {
      token.text = body.slice(token.start, all[k + 1]?.start).join("");
    });
    try {
      const answer = await ask("v1/completions", asked, writing.signal);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "", drawn = start;
      for (;;) {
        const {value, done} = await reader.read();
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const event of events) {
          if (event === "data: [DONE]") continue;
          const {choices, error} = JSON.parse(event.slice(6));
          if (error) throw new Error(error.message);
          if (!choices.length) continue;
          body.push(...choices[0].text);
          addPiece(choices[0]);
        }
        share();
        const last = written.children.length - 1;  // the last token may have grown
        if (drawn > start && last > 0) written.lastChild.replaceWith(tokenElement(text.tokens[drawn - 1]));
        written.append(...text.tokens.slice(drawn).map(tokenElement));
        drawn = text.tokens.length;
      }
    } finally {
      share();
      writing = null;
      draw();
    }
  }

  onSend("write", async () => {
    const isNew = fields.prompt.value !== text.prompt;
    await writeFrom({prompt: fields.prompt.value, tokens: isNew ? [] : [...text.tokens]});
  });

  // Write on from another state of the text. Where nothing comes, the old one comes back.
  async function writeFrom(next) {
    const old = text, count = next.tokens.length;
    past.push(old);
    text = next;
    draw();
    try {
      await write();
    } finally {
      if (text === next && next.tokens.length === count && next.prompt === old.prompt) text = past.pop();
      buttons();
    }
  }
  $("#write form").addEventListener("click", event => {
    const deed = event.target.dataset.do;
    if (deed === "stop") writing?.abort();
    if (deed === "undo") {
      text = past.pop();
      fields.prompt.value = text.prompt;
      draw();
    }
    if (deed === "copy") navigator.clipboard.writeText(wholeText());
  });
  fields.colours.addEventListener("change", () =>
    $("#written").classList.toggle("plain", !fields.colours.checked));

  // Another token in place of one: the text is written on from there.
  const menu = $("#menu");

  function openMenu(element) {
    const number = [...written.children].indexOf(element) - 1;
    const token = text.tokens[number];
    if (writing || !token) return;
    $("#about").style.display = "none";
    // A token that spells the end of the prompt again has only the rest of its name as text.
    const spelled = token.name.slice(0, Math.max(token.name.length - token.text.length, 0));
    const fits = name => name.startsWith(spelled) && !/^<(0x[0-9A-F]{2}|UNK)>$/.test(name);
    menu.replaceChildren(...token.likeliest.filter(([name]) => fits(name)).map(([name, p]) => {
      const shown = name.replace("\n", "¶").replace(/^ /, "␣");
      const button = make("button", {type: "button"}, shown, make("small", {textContent: p}));
      button.role = "option";
      button.setAttribute("aria-selected", name === token.name);
      button.onclick = () => branch(number, name, name.slice(spelled.length));
      return button;
    }));
    menu.hidden = false;
    const box = element.getClientRects()[0];
    const most = document.documentElement.clientWidth - menu.offsetWidth - 8;
    menu.style.left = Math.max(Math.min(box.left, most), 0) + scrollX + "px";
    menu.style.top = box.bottom + scrollY + 6 + "px";
    menu.firstChild?.focus({preventScroll: true});
    menu.opener = element;
  }

  function closeMenu() {
    if (menu.hidden) return;
    menu.hidden = true;
    menu.opener?.focus({preventScroll: true});
  }

  async function branch(number, name, own) {
    closeMenu();
    const old = text.tokens[number];
    const p = +old.likeliest.find(([other]) => other === name)[1];
    const chosen = {...old, name, text: own, bits: -Math.log2(p)};
    problem("");
    try {
      await writeFrom({...text, tokens: [...text.tokens.slice(0, number), chosen]});
    } catch (error) {
      if (error.name !== "AbortError") problem(error.message);
    }
  }

  written.addEventListener("click", event => {
    if (event.target.tagName === "B") openMenu(event.target);
  });
  written.addEventListener("keydown", event => {
    if (event.key === "Enter" && event.target.tagName === "B") {
      event.preventDefault();
      openMenu(event.target);
    }
  });
  menu.addEventListener("keydown", event => {
    const step = {ArrowDown: "nextSibling", ArrowUp: "previousSibling"}[event.key];
    if (event.key === "Escape") closeMenu();
    if (!step) return;
    event.preventDefault();
    document.activeElement[step]?.focus();
  });
  document.addEventListener("click", event => {
    if (!menu.hidden && !menu.contains(event.target) && event.target !== menu.opener) closeMenu();
  });

  // --- the other panels ---

  onSend("score", async (form, answer) => {
    const body = {model: model(), text: linesOf(form.text), tokens: true, words: form.words.checked, html: true};
    answer.innerHTML = (await (await ask("score", body)).json()).html;
  });

  onSend("compare", async (form, answer) => {
    const texts = [form.first.value, form.second.value];
    answer.innerHTML = (await (await ask("compare", {model: model(), texts, html: true})).json()).html;
  });

  onSend("fill", async (form, answer) => {
    const body = {model: model(), text: form.text.value, k: +form.k.value};
    const {blanks} = await (await ask("fill", body)).json();
    answer.replaceChildren(...blanks.map((fillers, number) => {
      const rows = fillers.map(({filler, probability}) => {
        const button = make("button", {type: "button", textContent: filler, title: "put it in"});
        button.onclick = () => {
          let seen = 0;
          form.text.value = form.text.value.replace(/___/g, blank => seen++ === number ? filler : blank);
        };
        const bar = make("span", {className: "bar"});
        bar.style.width = 100 * probability + "%";
        return make("tr", {}, make("td", {dir: "auto"}, button),
          make("td", {className: "number", textContent: probability.toFixed(4)}),
          make("td", {className: "bars"}, bar));
      });
      const heading = blanks.length > 1 ? `Blank ${number + 1}` : "";
      const nothing = rows.length ? [] : [make("p", {textContent: "Nothing fits here; is there a space missing by it?"})];
      return make("section", {}, make("h2", {textContent: heading}), make("table", {}, ...rows), ...nothing);
    }));
  });

  onSend("predict", async (form, answer) => {
    const body = {model: model(), text: linesOf(form.text), k: +form.k.value, html: true};
    const {html, predictions} = await (await ask("predict", body)).json();
    answer.innerHTML = html;
    if (body.k === 1) return;
    answer.append(...predictions.map(({text, answers}) => make("section", {},
      make("h2", {textContent: text, dir: "auto"}),
      make("table", {}, ...answers.map(values => make("tr", {}, ...Object.values(values).map(value =>
        make("td", {dir: "auto", textContent: typeof value === "number" ? value.toFixed(4) : value}))))))));
  });

  onSend("units", async (form, answer) => {
    const body = {model: model(), text: form.text.value, html: true};
    const {html} = await (await ask("units", body)).json();
    const frame = make("iframe", {title: "hidden units", srcdoc: html});
    frame.onload = () => {
      const whole = frame.contentDocument.documentElement;
      frame.style.height = whole.scrollHeight + 20 + "px";
    };
    answer.replaceChildren(frame);
  });

  load().catch(error => problem(error.message));
}
