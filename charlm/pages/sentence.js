// The figures of the token that the pointer is on, or that has the focus. The arrow keys go from
// token to token. Tokens may be added to the page later.
{
  const about = document.createElement("div");
  about.id = "about";
  about.role = "tooltip";
  document.body.append(about);
  const tokenOf = event => event.target.closest?.("b[data-t]");
  function row(...texts) {
    const row = document.createElement("tr");
    for (const text of texts)
      row.append(Object.assign(document.createElement("td"), {textContent: text, dir: "auto"}));
    return row;
  }
  function show(event) {
    const token = tokenOf(event);
    if (!token) return;
    const [name, bits, rank, entropy, ...likeliest] = token.dataset.t.split("\t");
    const table = document.createElement("table");
    table.append(row(name, (+bits).toFixed(2) + " bits"));
    table.append(row("probability", (2 ** -bits).toPrecision(3)));
    if (rank) table.append(row("rank", rank));
    if (entropy) table.append(row("entropy", entropy + " bits"));
    if (likeliest.length) table.append(row("likeliest", ""));
    for (let i = 0; i < likeliest.length; i += 2) table.append(row(...likeliest.slice(i, i + 2)));
    about.replaceChildren(table);
    about.style.display = "block";
    token.setAttribute("aria-describedby", about.id);
    const box = token.getClientRects()[0];
    const most = document.documentElement.clientWidth - about.offsetWidth - 8;
    about.style.left = Math.max(Math.min(box.left, most), 0) + scrollX + "px";
    about.style.top = box.bottom + scrollY + 8 + "px";
  }
  const hide = () => about.style.display = "none";
  function press(event) {
    if (event.key === "Escape") hide();
    const token = tokenOf(event);
    const step = {ArrowRight: "next", ArrowLeft: "previous"}[event.key];
    if (!token || !step) return;
    const all = [...token.closest(".scored").querySelectorAll("b[data-t]")];
    const forward = (step === "next") === (getComputedStyle(token).direction === "ltr");
    all[all.indexOf(token) + (forward ? 1 : -1)]?.focus();
    event.preventDefault();
  }
  document.addEventListener("mouseover", show);
  document.addEventListener("focusin", show);
  document.addEventListener("mouseout", hide);
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", press);
}
