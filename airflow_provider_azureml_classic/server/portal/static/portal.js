// Saves page loads; every page works without it.
"use strict";

// A part of a page that changes by itself: fetched again until the server says it no longer does.
function watch(part) {
  setTimeout(async () => {
    let fresh;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin" });
      if (answer.redirected) { location.reload(); return; }
      fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
    } catch { watch(part); return; }
    if (!fresh) return;
    if (part.dataset.then === "reload" && !fresh.dataset.poll) { location.reload(); return; }
    if (!part.contains(document.activeElement)) {
      part.replaceChildren(...fresh.childNodes);
      if (!fresh.dataset.poll) delete part.dataset.poll;
    }
    if (part.dataset.poll) watch(part);
  }, Number(part.dataset.poll));
}
document.querySelectorAll("[data-poll]").forEach(watch);

// A form whose answer is a part of the same page.
document.querySelectorAll("form[data-into]").forEach((form) => form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const target = document.getElementById(form.dataset.into);
  form.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(target.id) || page.querySelector("[role=alert]");
    if (answer.redirected || !fresh) { location.reload(); return; }
    target.replaceChildren(...(fresh.id ? fresh.childNodes : [fresh]));
    target.scrollIntoView({ block: "nearest" });
  } finally { form.removeAttribute("aria-busy"); }
}));

// Puts a key into the samples, or takes it out.
function fill(key) {
  document.querySelectorAll("[data-key]").forEach((part) => part.querySelectorAll("code").forEach((code) => {
    code.dataset.plain ??= code.textContent;
    code.textContent = key ? code.dataset.plain.replaceAll(part.dataset.key, key) : code.dataset.plain;
  }));
}

// Keys come when they are asked for, and go when they are hidden.
document.querySelectorAll("form[data-keys]").forEach((form) => form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const target = document.getElementById(form.dataset.keys), button = form.querySelector("button");
  if (target.childElementCount) { target.replaceChildren(); fill(""); button.textContent = "Show keys"; return; }
  const answer = await fetch(form.action, {
    method: "POST", body: new URLSearchParams(new FormData(form)), headers: { Accept: "application/json" },
  });
  if (!answer.ok || answer.redirected) { location.reload(); return; }
  const keys = await answer.json();
  for (const name of ["primary", "secondary"]) {
    const line = document.createElement("p"), code = document.createElement("code"), copy = document.createElement("button");
    line.className = "key";
    code.textContent = keys[name];
    copy.type = "button";
    copy.textContent = `Copy ${name} key`;
    copy.addEventListener("click", async () => {
      try { await navigator.clipboard.writeText(keys[name]); copy.textContent = "Copied"; }
      catch { getSelection().selectAllChildren(code); copy.textContent = "Selected: press Ctrl+C"; }
      setTimeout(() => { copy.textContent = `Copy ${name} key`; }, 3000);
    });
    line.append(code, " ", copy);
    target.append(line);
  }
  fill(keys.primary);
  button.textContent = "Hide keys";
}));

// What went wrong in one of several forms is brought into view.
document.querySelector("main [role=alert]")?.scrollIntoView({ block: "center" });

document.querySelectorAll("select[data-submit]").forEach((select) => {
  select.addEventListener("change", () => select.form.submit());
  select.form.querySelector("button").hidden = true;
});

// A file may be dropped on the form that takes one.
document.querySelectorAll("form[data-drop]").forEach((form) => {
  const input = form.querySelector("input[type=file]");
  form.querySelector("[data-hint]").hidden = false;
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) form.addEventListener(name, () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files, one = new DataTransfer();
    if (!file) return;
    one.items.add(file);
    input.files = one.files;
    form.requestSubmit();
  });
});
