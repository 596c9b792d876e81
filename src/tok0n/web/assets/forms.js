// Forms. They work without this script too.

const timeZone = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";
document.querySelectorAll("input[data-time-zone]").forEach((input) => (input.value = timeZone));
