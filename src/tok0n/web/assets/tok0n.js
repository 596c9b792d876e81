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

const showCopyButtons = () => {
  document.querySelectorAll("[data-copy], [data-copy-text]").forEach((button) => (button.hidden = false));
};
showCopyButtons();
new MutationObserver(showCopyButtons).observe(document.body, { childList: true, subtree: true });

// htmx dispatches "every" to each element that polls. A hidden tab doesn't poll, and catches up when it is shown.
const skippedPolls = new Set();
document.addEventListener("every", (event) => {
  if (!document.hidden) return;
  event.stopImmediatePropagation();
  skippedPolls.add(event.target);
}, true);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  skippedPolls.forEach((element) => element.isConnected && element.dispatchEvent(new Event("every")));
  skippedPolls.clear();
});
