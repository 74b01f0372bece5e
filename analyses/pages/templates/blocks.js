
// The table's columns are read at once; details are unpacked when a latent is opened, a chunk at a time.

const table = JSON.parse(document.getElementById("table-data").textContent);
const { columns } = table;
const rowOf = new Map(columns.latent.map((latent, row) => [latent, row]));

const KEPT = 12; // unpacked chunks, the last used ones
const unpacked = new Map();
const everythingRead = new Promise((resolve) => {
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", resolve, { once: true });
  else resolve();
});

async function unpack(text) {
  const packed = atob(text);
  const bytes = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

async function readChunk(chunk) {
  const id = `chunk-${chunk}`;
  if (!document.getElementById(id)) await everythingRead;
  const block = document.getElementById(id);
  if (!block) throw new Error("the file ends before it; it was cut off, copy it again");
  return unpack(block.textContent);
}

// The detail of a row, or null where the page has none.
async function detailOf(row) {
  const chunk = columns.chunk[row];
  if (chunk < 0) return null;
  if (typeof DecompressionStream === "undefined") throw new Error("this browser can't unpack it; open the page in one of 2023 or later");
  const found = unpacked.has(chunk) ? unpacked.get(chunk) : readChunk(chunk);
  unpacked.delete(chunk);
  unpacked.set(chunk, found);
  if (unpacked.size > KEPT) unpacked.delete(unpacked.keys().next().value);
  return (await found)[columns.latent[row]];
}
