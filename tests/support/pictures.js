// Runs in a blank page of the browser that takes the pictures. A picture is a PNG or WebP file in base64.
(() => {
  // A pixel differs if one of its channels differs by more than this, of 255. Another rasterizer of text stays below.
  const CHANNEL_MAX = 40;
  // A small change differs in many pixels of one block, and a change of a color in few levels of a whole block.
  const BLOCK = 8;

  const open = async (base64) => {
    const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  };

  const save = async (image, type, quality) => {
    const canvas = new OffscreenCanvas(image.width, image.height);
    canvas.getContext("2d").putImageData(image, 0, 0);
    const bytes = new Uint8Array(await (await canvas.convertToBlob({ type, quality })).arrayBuffer());
    let text = "";
    for (let at = 0; at < bytes.length; at += 32768) text += String.fromCharCode(...bytes.subarray(at, at + 32768));
    return btoa(text);
  };

  // Each pixel becomes the mean of `factor` × `factor` pixels.
  const shrinkImage = (image, factor) => {
    const width = Math.floor(image.width / factor), height = Math.floor(image.height / factor);
    const small = new ImageData(width, height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let channel = 0; channel < 4; channel++) {
          let sum = 0;
          for (let dy = 0; dy < factor; dy++) {
            for (let dx = 0; dx < factor; dx++) sum += image.data[((y * factor + dy) * image.width + x * factor + dx) * 4 + channel];
          }
          small.data[(y * width + x) * 4 + channel] = sum / (factor * factor);
        }
      }
    }
    return small;
  };

  return {
    shrink: async ({ picture, factor, quality }) => save(shrinkImage(await open(picture), factor), "image/webp", quality),

    // Returns the sizes, how much the pictures differ, and a picture in which what differs is red.
    compare: async ({ expected, actual }) => {
      const [before, after] = [await open(expected), await open(actual)];
      const width = Math.min(before.width, after.width), height = Math.min(before.height, after.height);
      const shown = new ImageData(width, height);
      const columns = Math.ceil(width / BLOCK);
      const pixels = new Uint32Array(columns * Math.ceil(height / BLOCK)), levels = new Float64Array(pixels.length);
      let differing = 0;
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          const a = (y * before.width + x) * 4, b = (y * after.width + x) * 4, at = (y * width + x) * 4;
          let most = 0, sum = 0;
          for (let channel = 0; channel < 3; channel++) {
            const difference = Math.abs(before.data[a + channel] - after.data[b + channel]);
            most = Math.max(most, difference);
            sum += difference;
          }
          const block = Math.floor(y / BLOCK) * columns + Math.floor(x / BLOCK);
          levels[block] += sum / 3;
          if (most > CHANNEL_MAX) { differing++; pixels[block]++; }
          for (let channel = 0; channel < 3; channel++) shown.data[at + channel] = most > CHANNEL_MAX ? [255, 0, 0][channel] : 128 + before.data[a + channel] / 2 - most;
          shown.data[at + 3] = 255;
        }
      }
      return {
        expected_size: [before.width, before.height],
        actual_size: [after.width, after.height],
        differing_share: differing / (width * height),
        block_share: Math.max(...pixels) / (BLOCK * BLOCK),
        block_level: Math.max(...levels) / (BLOCK * BLOCK),
        picture: await save(shown, "image/png"),
      };
    },
  };
})();
