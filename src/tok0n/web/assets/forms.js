// Forms. They work without this script too.

const timeZone = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
document.querySelectorAll("input[data-time-zone]").forEach((input) => (input.value = timeZone));
document.querySelectorAll("[data-time-zone-name]").forEach((part) => (part.textContent = timeZone));
const offer = document.querySelector("[data-time-zone-offer]");
if (offer) offer.hidden = ["", "UTC", "Etc/UTC", "Etc/GMT", "GMT"].includes(timeZone);

// The answer to a form isn't in the history: Back and Reload would send the form again, or fail. The page that the form
// was on takes its place. Chromium then gets that page with GET.
const main = document.querySelector("main[data-form-result]");
if (main) {
  const page = document.referrer.startsWith(location.origin + "/") ? document.referrer : location.href;
  history.replaceState(null, "", page);
  main.querySelector("[aria-invalid=true]")?.focus();
}

// Block a second submission while the first is in progress.
const BUSY_MILLISECONDS = 10_000;
const isSentByScript = "form[data-passkey], form[data-playground], form[hx-post]";
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || form.matches(isSentByScript) || event.defaultPrevented) return;
  if (form.hasAttribute("aria-busy")) return event.preventDefault();
  form.setAttribute("aria-busy", "true");
  setTimeout(() => form.removeAttribute("aria-busy"), BUSY_MILLISECONDS);
});
addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("form[aria-busy]").forEach((form) => form.removeAttribute("aria-busy"));
});
