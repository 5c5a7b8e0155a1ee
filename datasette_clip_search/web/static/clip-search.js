// Searches by a picture that the visitor chooses, pastes, or drops anywhere on the page.
"use strict";

(() => {
  // Larger pictures, and types that only the browser can decode, are sent as a JPEG.
  const LARGE_BYTES = 1_000_000;
  const LARGE_PIXELS = 4_000_000;
  const SENT_UNCHANGED = /^image\/(avif|bmp|gif|jpeg|png|webp)$/;
  const ENOUGH_PIXELS = 1024; // Of the longer side, about four times what models use.
  const PREVIEW_PIXELS = 224;
  const PREVIEW_KEY = "clip-search:";
  const ONLY_ADDRESS =
    "Only an address was dropped. Copy the picture and paste it here, or save it and choose it.";

  showPreview();
  const form = document.querySelector(".clip-form");
  const label = document.querySelector(".clip-upload");
  if (!label) return;
  const input = label.querySelector("input");
  const status = document.querySelector(".clip-status");
  label.hidden = false;

  input.addEventListener("change", () => {
    if (input.files.length) search(input.files[0]);
    // So that choosing the same picture again also counts as a change.
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    // Office programs copy words as plain text, as HTML and as a picture of them. A real picture
    // comes with at most one of the two texts.
    const areWords = types.includes("text/plain") && types.includes("text/html");
    if (!files.length || areWords) return;
    event.preventDefault();
    search(files[0]);
  });
  for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(type, (event) => {
      const { files, types } = event.dataTransfer ?? { files: [], types: [] };
      // From another page, some browsers drop only the address of a picture, and would open it.
      const isAddress = types.includes("text/uri-list") && !event.target.closest?.("input");
      const isOurs = types.includes("Files") || isAddress;
      const leaves = type === "drop" || (type === "dragleave" && !event.relatedTarget);
      document.body.classList.toggle("clip-dropping", isOurs && !leaves);
      if (!isOurs) return;
      event.preventDefault();
      if (type === "drop") files.length ? search(files[0]) : showStatus(ONLY_ADDRESS, true);
    });
  }

  // The browser's back button would show the last message again.
  addEventListener("pageshow", () => showStatus(""));

  let current = null;

  async function search(file) {
    current?.abort();
    const { signal } = (current = new AbortController());
    showStatus("Searching by your picture …");
    try {
      const picture = await decode(file);
      const body = (picture && needsShrinking(file, picture) && (await shrink(picture))) || file;
      if (body.size > Number(input.dataset.maxBytes)) {
        const megabytes = Math.floor(Number(input.dataset.maxBytes) / 1e6);
        throw new Error(`${file.name} is larger than the limit of ${megabytes} MB.`);
      }
      const found = await send(body, signal);
      // The visitor may have chosen another picture in the meantime.
      if (signal.aborted) return;
      if (picture) storePreview(picture, found.query.vector);
      location.assign(`${form.action}?${parameters({ vector: found.query.vector })}`);
    } catch (error) {
      if (!signal.aborted) showStatus(error.message, true);
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
      throw new Error("The picture could not be uploaded. Try again in a moment.");
    }
    const found = await response.json().catch(() => null);
    if (!found) throw new Error(`The picture was refused (${response.status}). Reload the page.`);
    if (!found.ok) throw new Error(found.error);
    return found;
  }

  // Returns the form's query parameters, except words.
  function parameters(others = {}) {
    const { q, ...rest } = Object.fromEntries(new FormData(form));
    const given = Object.entries({ ...others, ...rest }).filter(([, value]) => value !== "");
    return new URLSearchParams(given);
  }

  // Returns an upright bitmap, or null for a file that the browser can't decode.
  function decode(file) {
    return createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => null);
  }

  function draw(picture, pixels) {
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

  function needsShrinking(file, picture) {
    const isLarge = file.size > LARGE_BYTES || picture.width * picture.height > LARGE_PIXELS;
    return isLarge || !SENT_UNCHANGED.test(file.type);
  }

  function shrink(picture) {
    const canvas = draw(picture, ENOUGH_PIXELS);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  }

  // The picture stays in this browser, where the page of results shows it.
  function storePreview(picture, vector) {
    try {
      const preview = draw(picture, PREVIEW_PIXELS).toDataURL("image/jpeg");
      sessionStorage.setItem(PREVIEW_KEY + vector, preview);
    } catch {
      // A browser without storage shows the results without the picture.
    }
  }

  function showPreview() {
    const image = document.querySelector(".clip-sent");
    const vector = new URLSearchParams(location.search).get("vector");
    let preview = null;
    try {
      preview = image && sessionStorage.getItem(PREVIEW_KEY + vector);
    } catch {
      return;
    }
    if (!preview) return;
    image.addEventListener("load", () => (image.hidden = false));
    image.src = preview;
  }

  function showStatus(text, isError = false) {
    status.textContent = text;
    status.classList.toggle("clip-error", isError);
  }
})();
