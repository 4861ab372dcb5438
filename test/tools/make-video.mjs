/**
 * Draws a short synthetic scene and has an encoder make a video of it.
 *
 * In: a path whose ending chooses the container, and a codec. Out: a playable file whose every frame is a formula of
 * its time, so that tests know what they decode. The scene is a cartoon face whose brows rise, whose mouth opens and
 * whose head sways: nobody's face. Run as a program it writes `examples/clip.mp4`:
 *
 *   npm run build && node test/tools/make-video.mjs [path]
 */
import { fileURLToPath } from "node:url";

const isProgram = process.argv[1] === fileURLToPath(import.meta.url);
// Node itself runs what was built; a test runner runs the sources.
const encoder = isProgram ? "../../dist/runtime/data/encode.js" : "../../runtime/data/encode.ts";
const encode = await (await import(/* @vite-ignore */ encoder)).loadEncoder();

/** An ellipse as [signed distance in pixels (negative inside), left, top, right, bottom]. */
const ellipse = (cx, cy, rx, ry) => [
  (x, y) => (Math.hypot((x - cx) / rx, (y - cy) / ry) - 1) * Math.min(rx, ry),
  cx - rx,
  cy - ry,
  cx + rx,
  cy + ry,
];

/** A line from (ax, ay) to (bx, by) with round ends of radius r, as `ellipse`. */
function stroke(ax, ay, bx, by, r) {
  const dx = bx - ax;
  const dy = by - ay;
  const distance = (x, y) => {
    const t = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy)));
    return Math.hypot(x - ax - t * dx, y - ay - t * dy) - r;
  };
  return [distance, Math.min(ax, bx) - r, Math.min(ay, by) - r, Math.max(ax, bx) + r, Math.max(ay, by) + r];
}

/** The scene at `t` seconds as packed RGB bytes. Everything scales with the height. */
export function drawScene(t, width, height) {
  const rgb = new Uint8Array(width * height * 3);
  const s = height / 240;
  // A still background with some structure, so that "no motion" is a measurement and not a guess.
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const wave = 12 * Math.sin((x / s) * 0.09) * Math.cos((y / s) * 0.07);
      const base = [96 + wave + (30 * x) / width, 130 + wave, 150 + wave + (40 * y) / height];
      rgb.set(base, (y * width + x) * 3);
    }
  const paint = ([distance, left, top, right, bottom], ...color) => {
    for (let y = Math.max(0, Math.floor(top) - 1); y <= Math.min(height - 1, bottom + 1); y++)
      for (let x = Math.max(0, Math.floor(left) - 1); x <= Math.min(width - 1, right + 1); x++) {
        const alpha = Math.min(1, Math.max(0, 0.5 - distance(x, y))); // the edge is a ramp of one pixel
        const at = (y * width + x) * 3;
        for (let c = 0; c < 3; c++) rgb[at + c] += Math.round(alpha * (color[c] - rgb[at + c]));
      }
  };
  const surprise = 0.5 - 0.5 * Math.cos(Math.PI * t); // 0 at rest, 1 after a second, 0 after two
  const cx = width / 2 + 12 * s * Math.sin(Math.PI * t);
  const cy = height / 2 + 8 * s + 4 * s * Math.sin(2 * Math.PI * t);
  paint(ellipse(cx, cy - 22 * s, 76 * s, 84 * s), 70, 48, 38); // hair
  paint(ellipse(cx, cy, 66 * s, 84 * s), 236, 188, 150); // face
  for (const side of [-1, 1]) {
    const ex = cx + side * 27 * s;
    const ey = cy - 18 * s;
    const brow = ey - (17 + 11 * surprise) * s;
    paint(ellipse(ex, ey, 13 * s, (7 + 4 * surprise) * s), 250, 250, 250);
    paint(ellipse(ex, ey, 5 * s, 5 * s), 40, 60, 90);
    const [inner, outer] = [brow + 2 * s, brow + 4 * s];
    paint(stroke(ex - side * 14 * s, inner, ex + side * 14 * s, outer, 3.5 * s), 70, 48, 38);
    paint(ellipse(cx + side * 44 * s, cy + 22 * s, 11 * s, 8 * s), 240, 150, 130); // cheek
  }
  paint(stroke(cx, cy - 8 * s, cx - 5 * s, cy + 14 * s, 2 * s), 196, 140, 110); // nose
  paint(ellipse(cx, cy + 44 * s, (22 - 6 * surprise) * s, (4 + 16 * surprise) * s), 150, 40, 50); // mouth
  return rgb;
}

/** Encodes `frames` frames at `fps`. `codec` is an encoder of FFmpeg's, such as libx264, mpeg4 or libvpx. */
export function makeVideo(
  path,
  { codec, frames, fps = 25, width = 320, height = 240, bitrate = "600k", maxBFrames = 0 },
) {
  if (encode === undefined) throw new Error("node-av is not installed");
  const scenes = Array.from({ length: frames }, (_, i) => drawScene(i / fps, width, height));
  encode(path, { codec, width, height, fps, bitrate, maxBFrames }, scenes);
}

if (isProgram) {
  const path = process.argv[2] ?? fileURLToPath(new URL("../../examples/clip.mp4", import.meta.url));
  makeVideo(path, { codec: "libx264", frames: 50 });
  console.log(path);
}
