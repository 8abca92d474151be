// The page itself: theme, current section, and what a print shows.
(() => {
  "use strict";
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const themes = ["system", "light", "dark"];
  const stored = () => {
    try { return localStorage.getItem("hpro-theme") ?? "system"; } catch { return "system"; }
  };
  const show = (theme) => {
    if (theme === "system") delete root.dataset.theme; else root.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    document.dispatchEvent(new Event("themechange"));
  };
  let theme = stored();
  button.hidden = false;
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    try { localStorage.setItem("hpro-theme", theme); } catch { /* blocked: not kept */ }
    show(theme);
  });
  show(theme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(theme));

  const links = new Map([...document.querySelectorAll(".bar a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  for (const id of links.keys()) seen.observe(document.getElementById(id));

  const opened = [];
  addEventListener("beforeprint", () => {
    show("light"); // pictures of the player are drawn again
    for (const part of document.querySelectorAll("details.printed:not([open])")) {
      opened.push(part);
      part.open = true;
    }
  });
  addEventListener("afterprint", () => {
    show(theme);
    for (const part of opened.splice(0)) part.open = false;
  });
})();
