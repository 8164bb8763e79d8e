// The service worker of a page that was installed: it keeps the page and answers from what it keeps, without a network.
// @ts-check
const CACHE = "pocketseg-{digest}";
const FILES = ["./", "index.html", "app.webmanifest", "icon-192.png", "icon-512.png"];
const own = /** @type {any} */ (self);

own.addEventListener("install", (/** @type {any} */ event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)).then(() => own.skipWaiting()));
});
own.addEventListener("activate", (/** @type {any} */ event) => {
  const others = (/** @type {string[]} */ names) => names.filter((name) => name.startsWith("pocketseg-") && name !== CACHE);
  event.waitUntil(caches.keys().then((names) => Promise.all(others(names).map((name) => caches.delete(name)))).then(() => own.clients.claim()));
});
own.addEventListener("fetch", (/** @type {any} */ event) => {
  event.respondWith(caches.match(event.request, { ignoreSearch: true }).then((kept) => kept ?? fetch(event.request)));
});
