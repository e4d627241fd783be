// A browser leaves the orientation of a WebP unheeded, the server does not: it is shown as it is searched for.
const orientationOfWebp = (bytes) => {
  const view = new DataView(bytes);
  const name = (at) => String.fromCharCode(...new Uint8Array(bytes, at, 4));
  if (view.byteLength < 12 || name(0) !== "RIFF" || name(8) !== "WEBP") return 1;
  for (let at = 12, size; at + 8 <= view.byteLength; at += 8 + size + (size % 2)) {
    size = view.getUint32(at + 4, true);
    if (name(at) !== "EXIF") continue;
    const start = at + 8 + (name(at + 8) === "Exif" ? 6 : 0);
    const isLittle = view.getUint16(start) === 0x4949;
    const directory = start + view.getUint32(start + 4, isLittle);
    for (let entry = 0; entry < view.getUint16(directory, isLittle); entry++) {
      const place = directory + 2 + 12 * entry;
      if (view.getUint16(place, isLittle) === 0x0112) return view.getUint16(place + 8, isLittle);
    }
  }
  return 1;
};

const upright = async (file) => {
  let orientation = 1;
  try {
    orientation = orientationOfWebp(await file.arrayBuffer());
  } catch { /* what is damaged has none */ }
  if (!(orientation > 1 && orientation <= 8)) return file;
  const picture = await createImageBitmap(file, { imageOrientation: "none" });
  const { width: w, height: h } = picture;
  const turn = [
    [-1, 0, 0, 1, w, 0], [-1, 0, 0, -1, w, h], [1, 0, 0, -1, 0, h],
    [0, 1, 1, 0, 0, 0], [0, 1, -1, 0, h, 0], [0, -1, -1, 0, h, w], [0, -1, 1, 0, 0, w],
  ][orientation - 2];
  const canvas = make("canvas", "");
  [canvas.width, canvas.height] = orientation > 4 ? [h, w] : [w, h];
  const drawing = canvas.getContext("2d");
  drawing.setTransform(...turn);
  drawing.drawImage(picture, 0, 0);
  return new Promise((done) => canvas.toBlob(done));
};
