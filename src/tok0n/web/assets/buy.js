// The page to buy tokens: shows the total of each pack while its quantity changes. Without this script, Stripe shows it.

const dollars = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });

for (const pack of document.querySelectorAll("[data-cents]")) {
  const quantity = pack.querySelector("[data-quantity]");
  const total = pack.querySelector("[data-total]");
  const show = () => {
    const packs = quantity.valueAsNumber;
    total.textContent = packs >= 1 && quantity.validity.valid ? ` ${dollars.format((packs * pack.dataset.cents) / 100)}` : "";
  };
  quantity?.addEventListener("input", show);
  if (quantity) show();
}
