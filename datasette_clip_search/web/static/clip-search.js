// Search by a picture of one's own: chosen, pasted, or dropped anywhere on the page.
"use strict";

(() => {
  // What is larger, or of a type that servers don't take but this browser may, is sent as a JPEG.
  const LARGE_BYTES = 1_000_000;
  const LARGE_PIXELS = 4_000_000;
  const SENT_AS_IT_IS = /^image\/(avif|bmp|gif|jpeg|png|webp)$/;
  const ENOUGH_PIXELS = 1024; // Of the longer side: models see a quarter of it.
  const PREVIEW_PIXELS = 224;
  const KEPT = "clip-search:";
  const ONLY_ADDRESS =
    "Only an address was dropped. Copy the picture and paste it here, or save it and choose it.";

  showSent();
  const form = document.querySelector(".clip-form");
  const label = document.querySelector(".clip-upload");
  if (!label) return;
  const input = label.querySelector("input");
  const status = document.querySelector(".clip-status");
  label.hidden = false;

  input.addEventListener("change", () => {
    if (input.files.length) search(input.files[0]);
    // So that choosing the same picture again is a change, too.
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    // Office programs copy words as a picture of them, too; pictures come without plain text, or
    // with the name of their file.
    const areWords = types.includes("text/plain") && types.includes("text/html");
    if (!files.length || areWords) return;
    event.preventDefault();
    search(files[0]);
  });
  for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(type, (event) => {
      const { files, types } = event.dataTransfer ?? { files: [], types: [] };
      // Of a picture on another page some browsers hand over the address alone, and would go there.
      const isAddress = types.includes("text/uri-list") && !event.target.closest?.("input");
      const isOurs = types.includes("Files") || isAddress;
      const leaves = type === "drop" || (type === "dragleave" && !event.relatedTarget);
      document.body.classList.toggle("clip-dropping", isOurs && !leaves);
      if (!isOurs) return;
      event.preventDefault();
      if (type === "drop") files.length ? search(files[0]) : tell(ONLY_ADDRESS, true);
    });
  }

  // A page that is gone back to says what it last said.
  addEventListener("pageshow", () => tell(""));

  let current = null;

  async function search(file) {
    current?.abort();
    const { signal } = (current = new AbortController());
    tell("Searching by your picture …");
    try {
      const picture = await decoded(file);
      const body = (picture && isToBeDrawn(file, picture) && (await shrunk(picture))) || file;
      if (body.size > Number(input.dataset.maxBytes)) {
        const megabytes = Math.floor(Number(input.dataset.maxBytes) / 1e6);
        throw new Error(`${file.name} is larger than ${megabytes} MB, the limit here.`);
      }
      const found = await send(body, signal);
      // Another picture may have been given meanwhile.
      if (signal.aborted) return;
      if (picture) keepPreview(picture, found.query.vector);
      location.assign(`${form.action}?${parameters({ vector: found.query.vector })}`);
    } catch (error) {
      if (!signal.aborted) tell(error.message, true);
    }
  }

  async function send(body, signal) {
    let response;
    try {
      response = await fetch(`${form.action}.json?${parameters()}`, {
        method: "POST",
        headers: { "content-type": "application/octet-stream", "x-csrftoken": input.dataset.token },
        body,
        signal,
      });
    } catch {
      throw new Error("The picture could not be sent. Try again in a moment.");
    }
    const found = await response.json().catch(() => null);
    if (!found) throw new Error(`The picture was refused (${response.status}). Reload the page.`);
    if (!found.ok) throw new Error(found.error);
    return found;
  }

  // Returns what the form asks besides words.
  function parameters(others = {}) {
    const { q, ...rest } = Object.fromEntries(new FormData(form));
    const given = Object.entries({ ...others, ...rest }).filter(([, value]) => value !== "");
    return new URLSearchParams(given);
  }

  // Returns what the browser makes of a picture, upright, or null for one it can't decode.
  function decoded(file) {
    return createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  }

  function drawn(picture, pixels) {
    const scale = Math.min(1, pixels / Math.max(picture.width, picture.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(picture.width * scale));
    canvas.height = Math.max(1, Math.round(picture.height * scale));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    return canvas;
  }

  function isToBeDrawn(file, picture) {
    const isLarge = file.size > LARGE_BYTES || picture.width * picture.height > LARGE_PIXELS;
    return isLarge || !SENT_AS_IT_IS.test(file.type);
  }

  function shrunk(picture) {
    const canvas = drawn(picture, ENOUGH_PIXELS);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  }

  // The picture stays in this browser, for the page of its results to show.
  function keepPreview(picture, vector) {
    try {
      sessionStorage.setItem(KEPT + vector, drawn(picture, PREVIEW_PIXELS).toDataURL("image/jpeg"));
    } catch {
      // Where the browser keeps nothing, the results are shown without it.
    }
  }

  function showSent() {
    const image = document.querySelector(".clip-sent");
    const vector = new URLSearchParams(location.search).get("vector");
    let kept = null;
    try {
      kept = image && sessionStorage.getItem(KEPT + vector);
    } catch {
      return;
    }
    if (!kept) return;
    image.addEventListener("load", () => (image.hidden = false));
    image.src = kept;
  }

  function tell(text, isError = false) {
    status.textContent = text;
    status.classList.toggle("clip-error", isError);
  }
})();
