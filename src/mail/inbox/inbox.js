// Shows new mails as they come, without touching those that are read just now.
"use strict";

const list = document.getElementById("mails");
const PERIOD_MS = 1500;

function tellTimes(root) {
  for (const time of root.querySelectorAll("time[data-ms]")) {
    const at = new Date(Number(time.dataset.ms));
    time.dateTime = at.toISOString();
    time.textContent = at.toLocaleTimeString();
  }
}

async function look() {
  try {
    const to = list.dataset.to;
    const answer = await fetch("/lab/inbox" + (to ? "?to=" + encodeURIComponent(to) : ""), { cache: "no-store" });
    if (answer.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = [...page.querySelectorAll("article")].filter((mail) => !document.getElementById(mail.id));
      if (fresh.length > 0) {
        list.querySelector(".none")?.remove();
        fresh.forEach((mail) => mail.classList.add("new"));
        tellTimes(page);
        list.prepend(...fresh.map((mail) => document.adoptNode(mail)));
      }
    }
  } catch {
    // The site is being started again: the next look finds it.
  }
  setTimeout(look, PERIOD_MS);
}

tellTimes(document);
setTimeout(look, PERIOD_MS);
