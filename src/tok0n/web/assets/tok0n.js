// Enhancements. Everything except passkeys works without this script.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy], [data-copy-text]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const label = source ? button.textContent : button.getAttribute("aria-label");
  const show = (text) => (source ? (button.textContent = text) : button.setAttribute("aria-label", text));
  try {
    await navigator.clipboard.writeText(source ? source.textContent : button.dataset.copyText);
    show("Copied");
    button.classList.add("copied");
  } catch {
    getSelection().selectAllChildren(source ?? button.previousElementSibling);
    show("Press Ctrl+C");
  }
  setTimeout(() => {
    show(label);
    button.classList.remove("copied");
  }, 2000);
});

// Choose one language for all example code, and remember it.
const chooseLanguage = (language, root = document) => {
  root.querySelectorAll("input[data-language]").forEach((input) => {
    if (input.value === language) input.checked = true;
  });
};
document.addEventListener("change", (event) => {
  if (!event.target.matches("input[data-language]")) return;
  chooseLanguage(event.target.value);
  try {
    localStorage.setItem("language", event.target.value);
  } catch {} // storage may be off
});
try {
  chooseLanguage(localStorage.getItem("language"));
} catch {}

// Block a second click while a request is in progress. It would send and bill the request again.
document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-busy]");
  if (!form) return;
  if (form.hasAttribute("aria-busy")) {
    event.preventDefault();
    event.stopImmediatePropagation();
    return;
  }
  form.setAttribute("aria-busy", "true");
  const button = event.submitter;
  if (button && button.name === "send") button.textContent = form.dataset.busy;
}, true);

// Stream the playground's response. Without this script, the form loads a page with the whole response.
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-stream]");
  const option = form?.elements.model.selectedOptions[0];
  if (event.submitter?.name !== "send" || !option || !("streams" in option.dataset)) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  const section = document.getElementById("stream");
  const part = (selector) => section.querySelector(selector);
  const fail = (message) => {
    part("[data-error]").textContent = message;
    part("[data-error]").hidden = false;
  };
  document.querySelectorAll("#playground > section").forEach((other) => (other.hidden = true));
  part("[data-error]").hidden = true;
  part(".answer").textContent = "";
  part("dl").hidden = true;
  try {
    const response = await fetch(form.dataset.stream, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
      const page = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("playground");
      if (!page) return location.reload();
      document.getElementById("playground").replaceWith(page);
      window.htmx?.process(page);
      return;
    }
    form.elements.form_id.value = response.headers.get("x-tok0n-form-id");
    const requestId = response.headers.get("x-tok0n-request-id");
    part("[data-request]").href = part("[data-request]").dataset.request + requestId;
    part("[data-request] code").textContent = requestId;
    section.hidden = false;
    event.submitter.textContent = form.dataset.receiving;
    let isComplete = false;
    for await (const data of readEvents(response.body)) {
      const event = JSON.parse(data);
      if (event.error) return fail(event.error);
      part(".answer").append(event.text ?? "");
      if (event.receipt) {
        isComplete = true;
        showReceipt(part, event.receipt);
      }
    }
    if (!isComplete) throw new Error("incomplete");
  } catch {
    section.hidden = false;
    fail("The connection was interrupted. Requests shows whether you were billed.");
  } finally {
    form.removeAttribute("aria-busy");
    event.submitter.textContent = "Send";
  }
}, true);

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

function showReceipt(part, { reserved, charged, available }) {
  for (const [name, tokens] of Object.entries({ reserved, charged, released: reserved - charged, available })) {
    part(`[data-${name}]`).textContent = tokens.toLocaleString("en-US");
  }
  part("dl").hidden = false;
}

// Passkeys: the browser creates or uses a passkey, and the form submits its response.
if (window.PublicKeyCredential?.parseRequestOptionsFromJSON) {
  document.querySelectorAll("form[data-passkey]").forEach((form) => {
    form.hidden = false;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const complaint = form.querySelector("[data-complaint]");
      complaint.hidden = true;
      try {
        const answer = await fetch(form.dataset.options, { method: "POST" });
        const options = await answer.json();
        if (!answer.ok) throw new Error(options.message);
        const credential = form.dataset.passkey === "make"
          ? await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(options) })
          : await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(options) });
        form.elements.credential.value = JSON.stringify(credential.toJSON());
        form.submit();
      } catch (error) {
        complaint.textContent = error.name === "NotAllowedError" ? "Your device didn't respond, or you canceled." : error.message;
        complaint.hidden = false;
      }
    });
  });
}

document.querySelectorAll(".prose pre").forEach((pre, index) => {
  const snippet = document.createElement("div");
  snippet.className = "snippet";
  pre.replaceWith(snippet);
  pre.id = `snippet-${index}`;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button copy";
  button.dataset.copy = pre.id;
  button.textContent = "Copy";
  snippet.append(pre, button);
});

const showCopyButtons = () => {
  document.querySelectorAll("[data-copy], [data-copy-text]").forEach((button) => (button.hidden = false));
};
showCopyButtons();
new MutationObserver(showCopyButtons).observe(document.body, { childList: true, subtree: true });
