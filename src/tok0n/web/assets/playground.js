// The playground. Without this script, each button loads the page with the whole conversation.

const TYPING_MS = 400;
const BILL_SECONDS = [1, 2, 4, 8, 15];
const BILL_ATTEMPTS = 60;

const playground = () => document.getElementById("playground");
const form = () => document.querySelector("form[data-playground]");
const log = () => document.getElementById("log");

let sending = null; // the AbortController of the request that sends a message
let estimating = null;
let typing = 0;
let isFollowing = true;

const fieldsOf = (extra = {}) => {
  const fields = new URLSearchParams(new FormData(form()));
  for (const [name, value] of Object.entries(extra)) fields.set(name, value);
  return fields;
};

const post = (path, fields, signal) => fetch(form().dataset.playground + path, { method: "POST", body: fields, signal });

const parse = async (response) => new DOMParser().parseFromString(await response.text(), "text/html");

// Problems

const showProblem = (text) => {
  const place = form().querySelector("[data-problem]");
  const notice = document.createElement("p");
  notice.className = "notice bad";
  notice.setAttribute("role", "alert");
  notice.textContent = text;
  place.replaceChildren(notice);
};

const clearProblems = () => {
  form().querySelector("[data-problem]").replaceChildren();
  form().querySelectorAll(".error").forEach((error) => error.remove());
  form().querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
};

const UNREACHABLE = "We couldn't reach the server, and your text is still here. Try again.";
const SIGNED_OUT = "The server didn't accept this. If you signed out, sign in again in another tab, and then send it again.";

// Replace the part of the page that the server rendered. What was typed stays if the server doesn't answer with the page.
const show = (page) => {
  const next = page.getElementById("playground");
  if (!next) return showProblem(SIGNED_OUT);
  playground().replaceWith(document.importNode(next, true));
  start();
  const invalid = form().querySelector("[aria-invalid=true]");
  (invalid ?? form().elements.user).focus({ preventScroll: !invalid });
  if (!invalid) scrollToEnd();
};

const setBusy = (isBusy, canStop = false) => {
  const send = form().querySelector("[name=send]");
  form().toggleAttribute("aria-busy", isBusy);
  send.hidden = isBusy && canStop;
  send.textContent = isBusy ? "Sending…" : "Send";
  form().querySelector("[data-stop]").hidden = !(isBusy && canStop);
};

// Keep the end in view, unless the user scrolled away. Browsers estimate the height of distant messages until they come
// into view, so the first scroll can miss the end.
const scrollToEnd = () => {
  if (!isFollowing) return;
  const scroll = () => document.getElementById("composer")?.scrollIntoView({ block: "end", behavior: "instant" });
  scroll();
  requestAnimationFrame(() => isFollowing && scroll());
};

// The conversation: each article has its exchange, and the hidden field has all of them.

const exchanges = () => [...log().querySelectorAll("article[data-exchange]")].flatMap((item) => JSON.parse(item.dataset.exchange));

const keepConversation = () => {
  const all = exchanges();
  form().elements.conversation.value = all.length ? JSON.stringify(all) : "";
};

const addPending = (text) => {
  log().querySelectorAll("[data-blank], [data-failed], section").forEach((item) => item.remove());
  log().querySelectorAll("[name=edit]").forEach((button) => button.remove());
  document.getElementById("latest")?.removeAttribute("id");
  const article = document.getElementById("exchange-template").content.firstElementChild.cloneNode(true);
  article.querySelector("[data-user]").textContent = text;
  article.querySelector("[data-model]").textContent = form().elements.model.selectedOptions[0].value;
  log().append(article);
  scrollToEnd();
  return article;
};

// Ask the server to render an exchange: it has the Markdown and the receipt. Returns the article.
const render = async (article, exchange, number) => {
  const fields = new URLSearchParams({ exchange: JSON.stringify([exchange]), number });
  const page = await parse(await post("/exchange", fields));
  const rendered = page.querySelector("article");
  if (!rendered) throw new Error("no article");
  const next = document.importNode(rendered, true);
  const isLast = article === log().querySelector("article:last-of-type");
  if (!isLast) {
    next.removeAttribute("id");
    next.querySelector("[name=edit]")?.remove();
  }
  article.replaceWith(next);
  keepConversation();
  return next;
};

const keepAsItIs = (article, exchange) => {
  article.dataset.exchange = JSON.stringify([exchange]);
  article.removeAttribute("aria-busy");
  article.querySelector("[data-waiting]").textContent = "Requests shows what this response cost.";
  keepConversation();
};

const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

// A stopped response is billed when the provider has completed it.
const awaitBill = async (article) => {
  for (let attempt = 0; attempt < BILL_ATTEMPTS; attempt += 1) {
    await wait(BILL_SECONDS[Math.min(attempt, BILL_SECONDS.length - 1)]);
    if (!article.isConnected) return;
    const [exchange] = JSON.parse(article.dataset.exchange);
    try {
      article = await render(article, exchange, article.dataset.number);
    } catch {
      continue;
    }
    if (!("pending" in article.dataset)) return estimate();
  }
};

// While a response arrives, show its blocks: code, headings, lists, and text. The server renders the complete response.

const element = (name, className = "") => Object.assign(document.createElement(name), { className });

const appendText = (parent, text) => {
  for (const part of text.split(/(`[^`]+`|\*\*[^*]+\*\*)/)) {
    const [, mark, content] = part.match(/^(`|\*\*)(.+)\1$/) ?? [];
    if (!mark) parent.append(part);
    else parent.appendChild(element(mark === "`" ? "code" : "strong")).append(content);
  }
};

const showLive = (target, text) => {
  const blocks = document.createDocumentFragment();
  let code = null;
  let list = null;
  let paragraph = null;
  for (const line of text.split("\n")) {
    const [, hashes, title] = line.match(/^(#{1,6}) (.*)/) ?? [];
    const [, bullet, item] = line.match(/^\s*([-*+]|\d+[.)]) (.*)/) ?? [];
    if (/^\s*(```|~~~)/.test(line)) {
      code = code ? null : blocks.appendChild(element("pre", "code")).appendChild(element("code"));
      list = paragraph = null;
    } else if (code) {
      code.append(`${line}\n`);
    } else if (!line.trim()) {
      paragraph = null;
    } else if (hashes) {
      appendText(blocks.appendChild(element("h3")), title);
      list = paragraph = null;
    } else if (bullet) {
      const name = /\d/.test(bullet) ? "ol" : "ul";
      if (list?.localName !== name) list = blocks.appendChild(element(name));
      appendText(list.appendChild(element("li")), item);
      paragraph = null;
    } else {
      if (paragraph) paragraph.append(element("br"));
      else paragraph = blocks.appendChild(element("p"));
      appendText(paragraph, line);
      list = null;
    }
  }
  target.replaceChildren(blocks);
};

// Send

const send = async (name) => {
  if (sending) return;
  clearTimeout(typing);
  const streams = "streams" in (form().elements.model.selectedOptions[0]?.dataset ?? {});
  if (name === "send" && !form().elements.user.value.trim()) name = "ask";
  sending = new AbortController();
  isFollowing = true;
  clearProblems();
  setBusy(true, name === "send" && streams);
  try {
    await (name === "send" && streams ? stream(sending.signal) : load(name));
  } finally {
    sending = null;
    setBusy(false);
  }
};

const load = async (name, value = "1") => {
  try {
    show(await parse(await post("", fieldsOf({ [name]: value }))));
  } catch {
    showProblem(UNREACHABLE);
  }
};

const stream = async (signal) => {
  const fields = fieldsOf({ send: "1" });
  const input = form().elements.user;
  const user = input.value;
  const article = addPending(user);
  const target = article.querySelector("[data-text]");
  const number = log().querySelectorAll("article").length;
  input.value = "";
  let response = null;
  const fail = (text) => {
    article.remove();
    if (!input.value) input.value = user;
    showProblem(text);
  };
  let assistant = "";
  let frame = 0;
  let receipt = null;
  try {
    response = await post("/stream", fields, signal);
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
      const page = await parse(response);
      if (!page.getElementById("playground")) return fail(SIGNED_OUT);
      const typed = input.value;
      show(page);
      if (typed) form().elements.user.value += typed;
      return;
    }
    form().elements.form_id.value = response.headers.get("x-tok0n-form-id");
    for await (const data of readEvents(response.body)) {
      const event = JSON.parse(data);
      if (event.error) return fail(event.error);
      if (event.text) {
        assistant += event.text;
        article.querySelector("[data-waiting]").hidden = true;
        frame ||= requestAnimationFrame(() => {
          frame = 0;
          showLive(target, assistant);
          scrollToEnd();
        });
      }
      receipt = event.receipt ?? receipt;
    }
  } catch {
    if (!response) return fail(signal.aborted ? "You stopped this message before the response began. Requests shows whether you were billed." : UNREACHABLE);
  }
  if (!receipt && !signal.aborted) return fail("The connection was interrupted. Requests shows whether you were billed.");
  const exchange = {
    user: user.replaceAll("\r\n", "\n"),
    assistant: assistant.toWellFormed?.() ?? assistant,
    model: fields.get("model"),
    request_id: response.headers.get("x-tok0n-request-id"),
    reserved: receipt?.reserved ?? Number(response.headers.get("x-tok0n-reserved")),
    charged: receipt?.charged ?? null,
    stopped: !receipt,
  };
  try {
    const rendered = await render(article, exchange, number);
    if (!receipt) awaitBill(rendered);
  } catch {
    keepAsItIs(article, exchange);
  }
  form().querySelector("[name=new]").hidden = false;
  scrollToEnd();
  input.focus({ preventScroll: true });
  estimate();
};

async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const lines = event.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}

// The bound and the code, while the user types

const estimate = async () => {
  estimating?.abort();
  estimating = new AbortController();
  try {
    const page = await parse(await post("/bound", fieldsOf(), estimating.signal));
    const bound = page.getElementById("bound");
    const code = page.getElementById("code");
    if (!bound || !code) return;
    const language = document.querySelector("[name=code-language]:checked")?.value;
    code.open = document.getElementById("code").open;
    document.getElementById("bound").replaceChildren(...document.importNode(bound, true).childNodes);
    document.getElementById("code").replaceWith(document.importNode(code, true));
    document.querySelectorAll("[name=code-language]").forEach((input) => (input.checked ||= input.value === language));
  } catch {
    // A newer estimate replaced this one, or the server is unreachable: sending reports that.
  }
};

// Events

document.addEventListener("submit", (event) => {
  if (event.target !== form()) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  send(event.submitter?.name || "ask");
}, true);

document.addEventListener("input", (event) => {
  if (!event.target.closest("form[data-playground]")) return;
  clearTimeout(typing);
  typing = setTimeout(estimate, TYPING_MS);
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
  if (!event.target.closest("form[data-playground]")) return;
  event.preventDefault();
  send("send");
});

document.addEventListener("click", (event) => {
  if (event.target.closest("[data-stop]")) return sending?.abort();
  const link = event.target.closest("[data-switch]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  if (!sending) load("switch", link.dataset.switch);
});

for (const type of ["wheel", "touchmove"]) document.addEventListener(type, () => (isFollowing = false), { passive: true });

const start = () => {
  if (!form()) return;
  const hint = form().querySelector("[data-keys]");
  const isApple = /Mac|iPhone|iPad/.test(navigator.platform);
  hint.textContent = isApple ? "⌘ Enter sends" : "Ctrl + Enter sends";
  hint.hidden = matchMedia("(hover: none)").matches;
  form().querySelector("[data-estimate]").hidden = true; // the bound follows what is typed
  log().querySelectorAll("[data-pending]").forEach(awaitBill);
};

start();
