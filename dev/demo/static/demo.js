"use strict";

// Each button takes its steps in turn, and first those that it needs: a token that is outstanding,
// or one that is used. The token is here as it is in a page that carries it, and never shown whole.

const main = document.querySelector("main");
const chip = document.querySelector(".token");
const runs = document.querySelector(".runs");
const most = 12;
const token = { text: "", state: "none", expiry: 0 };

const fresh = () => (token.state === "fresh" ? [] : ["create"]);
const used = () => (token.state === "used" ? [] : [...fresh(), "consume"]);
const plans = {
  create: () => ["create"],
  use: () => [...fresh(), "consume"],
  again: () => [...used(), "consume"],
  race: () => [...fresh(), "race"],
  lose: () => [...fresh(), "lose"],
  restart: () => [...fresh(), "restart", "consume"],
};

function show(state, shown) {
  token.state = state;
  chip.dataset.state = state;
  chip.querySelector(".state").textContent = chip.dataset[state];
  if (shown) {
    const text = chip.querySelector(".text");
    text.textContent = shown;
    text.hidden = false;
  }
}

async function take(step) {
  const response = await fetch(`${main.dataset.calls}/${step}?lang=${main.dataset.language}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token: token.text }),
  });
  const outcome = await response.json();
  // The page's own calls are refused as those of the service are.
  return response.ok ? outcome : { said: `${outcome.title}. ${outcome.detail}`, html: "" };
}

function learn(outcome) {
  if (outcome.token) {
    token.text = outcome.token;
    clearTimeout(token.expiry);
    token.expiry = setTimeout(() => token.state === "fresh" && show("expired"), outcome.life * 1000);
  }
  if (outcome.state) show(outcome.state, outcome.token_shown);
}

function begin(button) {
  const run = document.querySelector("#run").content.cloneNode(true).firstElementChild;
  run.querySelector("h3").textContent = button.querySelector(".name").textContent;
  document.querySelector(".empty").hidden = true;
  runs.prepend(run);
  while (runs.children.length > most) runs.lastElementChild.remove();
  return run;
}

function tell(run, outcome) {
  // The last step stands open; those that led to it, in one line each.
  for (const earlier of run.querySelectorAll("details")) earlier.open = false;
  run.querySelector(".verdict").textContent = outcome.said;
  run.querySelector(`.lane.${outcome.side ?? "gateway"}`).insertAdjacentHTML("beforeend", outcome.html);
}

async function press(button) {
  main.setAttribute("aria-busy", "true");
  const run = begin(button);
  let outcome, failed;
  try {
    for (const step of plans[button.dataset.run]()) {
      // A restart may be what mends it.
      if (failed && step !== "restart") continue;
      outcome = await take(step);
      failed ||= !outcome.goes_on;
      learn(outcome);
      tell(run, outcome);
    }
  } catch {
    outcome = { said: main.dataset.silent, html: "" };
    tell(run, outcome);
  }
  document.querySelector(".said").textContent = outcome.said;
  if (run.getBoundingClientRect().top > 0.7 * innerHeight) run.scrollIntoView({ block: "start" });
  main.removeAttribute("aria-busy");
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-run]");
  if (button && !main.hasAttribute("aria-busy")) press(button);
});
