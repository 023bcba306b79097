/** Files out of what was dropped, those in folders too. */

/**
 * Gives the files, and the names of what could not be read.
 *
 * Has to be called while the event is handled: its items are gone afterwards.
 */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  const unread = [];
  if (!entries.some((entry) => entry?.isDirectory)) return { files: [...transfer.files], unread };
  const found = await Promise.all(entries.filter(Boolean).map((entry) => within(entry, unread)));
  return { files: found.flat(), unread };
}

/** What cannot be read is named in `unread`, and harms nothing else. */
async function within(entry, unread) {
  try {
    if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
    const inside = (await listed(entry.createReader())).filter(({ name }) => !name.startsWith("."));
    return (await Promise.all(inside.map((each) => within(each, unread)))).flat();
  } catch {
    unread.push(entry.name);
    return [];
  }
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
