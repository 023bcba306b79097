/** Files out of what was dropped, those in folders too. */

/** Has to be called while the event is handled: its items are gone afterwards. */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  const found = await Promise.all(entries.filter(Boolean).map(within));
  return found.flat();
}

async function within(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const found = await Promise.all((await listed(entry.createReader())).map(within));
  return found.flat().filter(({ name }) => !name.startsWith("."));
}

/** A reader gives a hundred entries at a time, and none when it is done. */
async function listed(reader) {
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}
