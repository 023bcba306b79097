/** A photo from the camera: through the phone's own camera, or through a window of this page. */

const dialog = document.getElementById("camera");
const view = document.getElementById("camera-view");
const words = document.getElementById("camera-words");
const shutter = document.getElementById("shutter");

const REFUSALS = {
  NotAllowedError: "The browser may not use the camera. Allow it beside the address, or choose a file instead.",
  NotFoundError: "There is no camera here. Choose a file instead.",
  NotReadableError: "The camera is in use by another program. Close that and try again.",
};

/**
 * Calls `accept` with the file of a photo, unless the person cancels.
 *
 * `capture` is a file input that opens the camera of a phone. Pages that did not come over HTTPS or from this very
 * machine get no camera from the browser, but phones still photograph for a file input.
 */
export async function photograph(capture, accept) {
  if (matchMedia("(pointer: coarse)").matches || !navigator.mediaDevices) {
    capture.click();
    return;
  }
  words.textContent = "Waiting for the camera";
  shutter.disabled = true;
  const closed = new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  dialog.showModal();
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280, height: 960, facingMode: "environment" } });
    const photo = await viewfind(stream, closed);
    if (!photo) return;
    accept([photo]);
    dialog.close();
  } catch (error) {
    words.textContent = REFUSALS[error.name] ?? "The camera gives no picture. Choose a file instead.";
  } finally {
    for (const track of stream?.getTracks() ?? []) track.stop();
  }
}

/** Shows what the camera sees, and gives a photo of it; null if the dialog closes before, which it may at any moment. */
async function viewfind(stream, closed) {
  view.srcObject = stream;
  try {
    if (await Promise.race([closed, view.play()])) return null;
    words.textContent = "";
    shutter.disabled = false;
    shutter.focus();
    const pressed = new Promise((resolve) => shutter.addEventListener("click", resolve, { once: true }));
    const { type } = await Promise.race([closed, pressed]);
    return type === "click" ? await still() : null;
  } finally {
    view.srcObject = null;
  }
}

async function still() {
  const canvas = new OffscreenCanvas(view.videoWidth, view.videoHeight);
  canvas.getContext("2d").drawImage(view, 0, 0);
  const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.92 });
  return new File([blob], "photo.jpg", { type: blob.type });
}
