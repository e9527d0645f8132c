// In a file of its own because the page's policy allows no inline script.

const LANGUAGE = document.documentElement.lang;
const page = document.getElementById("swagger-ui");

// The examples of bodies name tokens that cannot exist. In their place goes the last one of its kind
// that the service has shown, so that the calls work one after the other.
const SHOWN = /"(ott|otr|osr)_[0-9A-Za-z]+"/g;
const shown = {};

function remember(response) {
  for (const [text, kind] of (response.text || "").matchAll(SHOWN)) shown[kind] = text.slice(1, -1);
  if (response.ok && response.url.endsWith("/auth/login") && response.body) {
    window.ui.preauthorizeApiKey("bearer", response.body.access_token);
  }
  return response;
}

// The language of a link, which the calls have too. Without one it is that of the browser.
const LINKED = new URLSearchParams(location.search).has("lang");

function fillIn(request) {
  if (LINKED) request.headers["Accept-Language"] = LANGUAGE;
  if (typeof request.body === "string") {
    request.body = request.body.replace(/(ott|otr|osr)_0042…/g, (text, kind) => shown[kind] || text);
  }
  return request;
}

// The path of an operation stands in the button that opens it. As a link it would be a second
// control in the first, which a screen reader cannot tell apart. That of a tag has no slash.
const plainPaths = {
  wrapComponents: {
    DeepLink: (Link, { React }) => (given) =>
      given.path.includes("/")
        ? React.createElement("span", null, given.text)
        : React.createElement(Link, given),
  },
};

// The controls to which Swagger UI gives no name.
const NAMES = {
  "#servers": "Servers",
  ".close-modal": "Close",
  ".examples-select-element": "Examples",
  ".body-param__text": "Request body",
};

function nameControls() {
  for (const [selector, name] of Object.entries(NAMES)) {
    for (const control of page.querySelectorAll(`${selector}:not([aria-label])`)) {
      control.setAttribute("aria-label", name);
    }
  }
  const values = ":is(input[type=text], select, textarea):not([aria-label])";
  for (const control of page.querySelectorAll(`[data-param-name] ${values}`)) {
    control.setAttribute("aria-label", control.closest("[data-param-name]").dataset.paramName);
  }
  // A name that leaves out the button's own text cannot be spoken to it.
  for (const button of page.querySelectorAll(".auth-btn-wrapper [aria-label]")) {
    button.removeAttribute("aria-label");
  }
}

// The keyboard goes to the first field of the dialog of credentials, and back to where it was.
// Swagger UI itself goes to the last form, and back to nothing.
let dialog = null;
let opener = null;

page.addEventListener("focusin", ({ target }) => {
  if (!target.closest(".modal-ux")) opener = target;
});

function followDialog() {
  const open = page.querySelector(".modal-ux");
  if (open === dialog) return;
  if (open) {
    open.setAttribute("role", "dialog");
    open.setAttribute("aria-label", open.querySelector("h3").textContent);
    open.querySelector(".modal-ux-content :is(input, button)").focus();
  } else {
    opener?.focus();
  }
  dialog = open;
}

new MutationObserver(() => {
  nameControls();
  followDialog();
}).observe(page, { subtree: true, childList: true });

window.ui = SwaggerUIBundle({
  url: LANGUAGE === "en" ? "openapi.json" : `openapi.json?lang=${LANGUAGE}`,
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayRequestDuration: true,
  plugins: [plainPaths],
  requestInterceptor: fillIn,
  responseInterceptor: remember,
});
