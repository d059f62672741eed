// The list of differences between npm `peer` and the gateway, `peer-differences.json` beside the test.
//
// It is an array of groups `{area, why, rows}`: what the group is about, why Signalbox differs there, and what of the recorded
// exchanges differs. A row is `{id, where, peer, signalbox, note?}`:
//
// - `where`: places `exchange / field`; `*` stands for anything.
// - `peer`, `signalbox`: what each server's record holds there, `*` again for anything; `absent` for a field that is not there.
// - `note`: a remark for readers.

import { readFileSync } from "node:fs";

const ABSENT = "absent";

/** The rows of the list, ready to be compared with. Throws for one that cannot be read. */
export function readDifferences(path) {
  const rows = JSON.parse(readFileSync(path, "utf8")).flatMap(({ area, why, rows: inGroup }) => {
    if (!area || !why || !(inGroup?.length > 0)) {
      throw new Error(`a group of the list of differences needs an area, a reason and rows: ${JSON.stringify({ area, why })}`);
    }
    return inGroup.map(parseRow);
  });
  const repeated = rows.find((row, index) => rows.findIndex((other) => other.id === row.id) !== index);
  if (repeated) {
    throw new Error(`the list of differences has two rows with the id ${repeated.id}`);
  }
  return rows;
}

/** What differs between two records, as `{exchange, field, peer, signalbox}`. */
export function compare(exchange, peer, signalbox) {
  const fields = new Set([...peer.keys(), ...signalbox.keys()]);
  return [...fields]
    .map((field) => ({ exchange, field, peer: peer.get(field) ?? ABSENT, signalbox: signalbox.get(field) ?? ABSENT }))
    .filter((difference) => difference.peer !== difference.signalbox);
}

/** The places on the list that allow this difference. */
export function findPlaces(rows, { exchange, field, peer, signalbox }) {
  return rows
    .filter((row) => row.peer.test(peer) && row.signalbox.test(signalbox))
    .flatMap((row) => row.where)
    .filter((place) => place.exchange.test(exchange) && place.field.test(field));
}

/** The difference as a row that can be pasted into the list. */
export function asRow({ exchange, field, peer, signalbox }) {
  return JSON.stringify({ id: "?", where: [`${exchange} / ${field}`], peer, signalbox });
}

function parseRow(row) {
  const { id, where, peer, signalbox } = row;
  const places = (where ?? []).map(splitPlace);
  if (!id || places.length === 0 || places.includes(undefined) || !peer || !signalbox) {
    throw new Error(`not a row of the list of differences: ${JSON.stringify(row)}`);
  }
  return {
    id,
    where: places.map(([exchange, field]) => ({ name: `${id}: ${exchange} / ${field}`, exchange: pattern(exchange), field: pattern(field) })),
    peer: pattern(peer),
    signalbox: pattern(signalbox),
  };
}

/** `exchange / field`; the name of an exchange may itself hold a slash between spaces. */
function splitPlace(place) {
  const index = place.lastIndexOf(" / ");
  return index < 0 ? undefined : [place.slice(0, index), place.slice(index + 3)];
}

function pattern(text) {
  const escaped = text.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${escaped.join(".*")}$`, "s");
}
